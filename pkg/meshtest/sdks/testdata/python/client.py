"""A FastMCP client: URL TRANSPORT ERA PLAN. It prints what it saw as one JSON object."""

import asyncio
import json
import sys

from fastmcp import Client
from fastmcp.client.transports import SSETransport, StreamableHttpTransport

url, transport, era, plan = sys.argv[1:]


def outcome(error: Exception) -> dict:
    return {"code": getattr(getattr(error, "error", error), "code", None), "message": str(error)}


async def names(listing, key: str):
    try:
        return [str(getattr(item, key)) for item in await listing()]
    except Exception as error:
        return {"error": outcome(error)}


async def attempt(client: Client, call: dict) -> dict:
    try:
        if "tool" in call:
            result = await client.call_tool_mcp(call["tool"], call.get("arguments", {}))
            return {"isError": bool(result.is_error), "content": [c.model_dump(mode="json", exclude_none=True) for c in result.content]}
        if "resource" in call:
            contents = await client.read_resource(call["resource"])
            return {"contents": [c.model_dump(mode="json", exclude_none=True) for c in contents]}
        result = await client.get_prompt(call["prompt"], call.get("arguments", {}))
        return {"messages": [m.model_dump(mode="json", exclude_none=True) for m in result.messages]}
    except Exception as error:
        return {"error": outcome(error)}


async def main() -> None:
    kind = SSETransport if transport == "sse" else StreamableHttpTransport
    mode = "2026-07-28" if era == "modern" else "legacy"
    async with Client(kind(url), timeout=20, mode=mode) as client:
        seen = {
            "tools": await names(client.list_tools, "name"),
            "resources": await names(client.list_resources, "uri"),
            "prompts": await names(client.list_prompts, "name"),
            "calls": [await attempt(client, call) for call in json.loads(plan)],
        }
    print(json.dumps(seen))


asyncio.run(main())
