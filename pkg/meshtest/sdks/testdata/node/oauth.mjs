// A TypeScript client that gets tokens as the server's challenges say: SDK URL ISSUER SCOPE. It
// calls a tool, one that needs another scope, and one that is hidden.
const [sdk, url, expectedIssuer, scope] = process.argv.slice(2);
const v1 = '@modelcontextprotocol/sdk/client/';
const modules = sdk === 'v1' ? [`${v1}index.js`, `${v1}streamableHttp.js`, `${v1}auth-extensions.js`] : ['@modelcontextprotocol/client'];
const { Client, StreamableHTTPClientTransport, ClientCredentialsProvider } = Object.assign({}, ...await Promise.all(modules.map((m) => import(m))));

const authProvider = new ClientCredentialsProvider({ clientId: 'alice', clientSecret: 'secret', expectedIssuer, ...(scope && { scope }) });
const client = new Client({ name: 'oauth', version: '1.0.0' });
await client.connect(new StreamableHTTPClientTransport(new URL(url), { authProvider }));
const outcome = async (name) => {
  try {
    return { [name]: (await client.callTool({ name, arguments: {} })).content[0].text };
  } catch (e) {
    return { [name]: String(e.message) };
  }
};
const calls = [];
for (const name of ['safe', 'danger', 'echo']) calls.push(await outcome(name));
console.log(JSON.stringify({ tools: (await client.listTools()).tools.map((t) => t.name).sort(), resources: [], prompts: [], calls }));
await client.close();
