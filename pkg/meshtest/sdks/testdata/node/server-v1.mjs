// A server of the TypeScript SDK's v1 line: PORT JOURNAL KIND. It writes each tool that runs to the journal.
import { appendFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { randomUUID } from 'node:crypto';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { SSEServerTransport } from '@modelcontextprotocol/sdk/server/sse.js';
import { z } from 'zod';

const [port, journal, kind] = process.argv.slice(2);
const ran = (tool) => appendFileSync(journal, tool + '\n');

function build() {
  const server = new McpServer({ name: 'typescript-v1', version: '1.0.0' });
  server.registerTool('echo', { description: 'Says it again', inputSchema: { message: z.string() } }, ({ message }) => {
    ran('echo');
    return { content: [{ type: 'text', text: `echo: ${message}` }] };
  });
  server.registerTool('safe', { description: 'Does no harm', inputSchema: { x: z.any().optional() } }, () => {
    ran('safe');
    return { content: [{ type: 'text', text: 'safe' }] };
  });
  server.registerTool('danger', { description: 'Does harm', inputSchema: { x: z.any().optional() } }, () => {
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

const sessions = new Map();

async function stateless(req, res) {
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined });
  await build().connect(transport);
  await transport.handleRequest(req, res);
}

async function streamable(req, res) {
  let transport = sessions.get(req.headers['mcp-session-id']);
  if (!transport) {
    transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => sessions.set(id, transport),
    });
    await build().connect(transport);
  }
  await transport.handleRequest(req, res);
}

async function sse(req, res) {
  const at = new URL(req.url, 'http://localhost');
  if (req.method === 'GET') {
    const transport = new SSEServerTransport('/message', res);
    sessions.set(transport.sessionId, transport);
    await build().connect(transport);
    return;
  }
  const transport = sessions.get(at.searchParams.get('sessionId'));
  if (!transport) {
    res.writeHead(404).end();
    return;
  }
  await transport.handlePostMessage(req, res);
}

createServer({ http: streamable, sse, stateless }[kind]).listen(Number(port), '127.0.0.1');
