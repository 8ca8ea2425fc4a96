// Node's HTTP/2, without TLS and with prior knowledge: URL DENIED. It makes calls of the
// modern era beside each other on one connection, and prints what came back.
import { connect } from 'node:http2';

const [url, denied] = process.argv.slice(2);
const at = new URL(url);
const session = connect(at.origin);

function call(id, method, params, name) {
  const _meta = {
    'io.modelcontextprotocol/protocolVersion': '2026-07-28',
    'io.modelcontextprotocol/clientInfo': { name: 'node-http2', version: '1' },
    'io.modelcontextprotocol/clientCapabilities': {},
  };
  return new Promise((resolve, reject) => {
    const stream = session.request({
      ':method': 'POST', ':path': at.pathname, 'content-type': 'application/json', accept: 'application/json, text/event-stream',
      'mcp-protocol-version': '2026-07-28', 'mcp-method': method, ...(name && { 'mcp-name': name }),
    });
    let status, text = '';
    stream.on('response', (h) => { status = h[':status']; });
    stream.setEncoding('utf8').on('data', (d) => { text += d; });
    stream.on('error', reject).on('end', () => {
      const data = text.split('\n').filter((l) => l.startsWith('data: ')).map((l) => l.slice(6)).at(-1) ?? text;
      resolve({ status, answer: JSON.parse(data) });
    });
    stream.end(JSON.stringify({ jsonrpc: '2.0', id, method, params: { ...params, _meta } }));
  });
}

const seen = await Promise.all([
  call(1, 'tools/list', {}),
  call(2, 'tools/call', { name: 'echo', arguments: { message: 'x'.repeat(200000) } }, 'echo'),
  call(3, 'tools/call', { name: 'no-such', arguments: {} }, 'no-such'),
  ...Array.from({ length: 20 }, (_, i) => call(10 + i, 'tools/call', { name: 'echo', arguments: { message: String(i) } }, 'echo')),
]);
seen.push(await call(4, 'tools/call', { name: denied, arguments: {} }, denied)); // what does not exist was asked for before
console.log(JSON.stringify({
  tools: seen[0].answer.result.tools.map((t) => t.name).sort(), resources: [], prompts: [],
  calls: seen.slice(1).map((s) => ({ status: s.status, ...s.answer })),
}));
session.close();
