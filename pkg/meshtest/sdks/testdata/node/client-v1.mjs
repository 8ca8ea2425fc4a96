// A client of the TypeScript SDK's v1 line: URL TRANSPORT ERA PLAN. It prints what it saw as one JSON object.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { follow } from './plan.mjs';

const [url, transport, , plan] = process.argv.slice(2);
const client = new Client({ name: 'typescript-v1', version: '1.0.0' });
const target = new URL(url);
await client.connect(transport === 'sse' ? new SSEClientTransport(target) : new StreamableHTTPClientTransport(target));
await follow(client, JSON.parse(plan));
