// A client of the TypeScript SDK's v2 line: URL TRANSPORT ERA PLAN. It prints what it saw as one JSON object.
import { Client, SSEClientTransport, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { follow } from './plan.mjs';

const [url, transport, era, plan] = process.argv.slice(2);
const mode = era === 'modern' ? { pin: '2026-07-28' } : 'legacy';
const client = new Client({ name: 'typescript-v2', version: '1.0.0' }, { versionNegotiation: { mode } });
const target = new URL(url);
await client.connect(transport === 'sse' ? new SSEClientTransport(target) : new StreamableHTTPClientTransport(target));
await follow(client, JSON.parse(plan));
