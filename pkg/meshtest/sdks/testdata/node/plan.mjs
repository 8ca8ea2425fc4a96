// Follows a plan with either line's client: list all pages of everything, then make the calls in order.
async function list(client, method, field, key) {
  const names = [];
  let cursor;
  try {
    do {
      const page = await client[method](cursor === undefined ? undefined : { cursor });
      names.push(...page[field].map((item) => item[key]));
      cursor = page.nextCursor;
    } while (cursor !== undefined);
  } catch (error) {
    return { error: outcome(error) };
  }
  return names;
}

function outcome(error) {
  return { code: error.code ?? null, message: String(error.message) };
}

async function attempt(client, call) {
  try {
    if (call.tool !== undefined) {
      const result = await client.callTool({ name: call.tool, arguments: call.arguments });
      return { isError: result.isError ?? false, content: result.content };
    }
    if (call.resource !== undefined) {
      return { contents: (await client.readResource({ uri: call.resource })).contents };
    }
    return { messages: (await client.getPrompt({ name: call.prompt, arguments: call.arguments })).messages };
  } catch (error) {
    return { error: outcome(error) };
  }
}

export async function follow(client, plan) {
  const seen = {
    tools: await list(client, 'listTools', 'tools', 'name'),
    resources: await list(client, 'listResources', 'resources', 'uri'),
    prompts: await list(client, 'listPrompts', 'prompts', 'name'),
    calls: [],
  };
  for (const call of plan) {
    seen.calls.push(await attempt(client, call));
  }
  await client.close();
  process.stdout.write(JSON.stringify(seen) + '\n', () => process.exit(0));
}
