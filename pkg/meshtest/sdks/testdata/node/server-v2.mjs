// A server of the TypeScript SDK's v2 line, of both eras: PORT JOURNAL. It writes each tool that runs to the journal.
import { appendFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server';
import { toNodeHandler } from '@modelcontextprotocol/node';
import { z } from 'zod';

const [port, journal] = process.argv.slice(2);
const ran = (tool) => appendFileSync(journal, tool + '\n');

function build() {
  const server = new McpServer({ name: 'typescript-v2', version: '1.0.0' });
  server.registerTool('echo', { description: 'Says it again', inputSchema: z.object({ message: z.string() }) }, ({ message }) => {
    ran('echo');
    return { content: [{ type: 'text', text: `echo: ${message}` }] };
  });
  server.registerTool('safe', { description: 'Does no harm', inputSchema: z.object({ x: z.any().optional() }) }, () => {
    ran('safe');
    return { content: [{ type: 'text', text: 'safe' }] };
  });
  server.registerTool('danger', { description: 'Does harm', inputSchema: z.object({ x: z.any().optional() }) }, () => {
    ran('danger');
    return { content: [{ type: 'text', text: 'done' }] };
  });
  server.registerResource('note', 'note://public', {}, (uri) => ({ contents: [{ uri: uri.href, text: 'public' }] }));
  server.registerResource('secret', 'note://secret', {}, (uri) => {
    ran('secret');
    return { contents: [{ uri: uri.href, text: 'secret' }] };
  });
  for (const name of ['safe', 'danger']) {
    server.registerResource(name, `file:///${name}`, {}, (uri) => {
      ran(`file:///${name}`);
      return { contents: [{ uri: uri.href, text: name }] };
    });
    server.registerPrompt(name, { description: name }, () => {
      ran(`prompt ${name}`);
      return { messages: [{ role: 'user', content: { type: 'text', text: name } }] };
    });
  }
  server.registerPrompt('greet', { description: 'Greets' }, () => ({ messages: [{ role: 'user', content: { type: 'text', text: 'hello' } }] }));
  return server;
}

createServer(toNodeHandler(createMcpHandler(build))).listen(Number(port), '127.0.0.1');
