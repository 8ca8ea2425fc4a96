"""A FastMCP server: PORT JOURNAL TRANSPORT. It writes each tool that runs to the journal."""

import sys

from fastmcp import FastMCP

port, journal, transport = sys.argv[1:]


def ran(tool: str) -> None:
    with open(journal, "a") as f:
        f.write(tool + "\n")


server = FastMCP("fastmcp")


@server.tool
def echo(message: str) -> str:
    """Says it again"""
    ran("echo")
    return f"echo: {message}"


@server.tool
def danger() -> str:
    """Does harm"""
    ran("danger")
    return "done"


@server.resource("note://public")
def note() -> str:
    return "public"


@server.resource("note://secret")
def secret() -> str:
    ran("secret")
    return "secret"


@server.prompt
def greet() -> str:
    return "hello"


path = "/sse" if transport == "sse" else "/mcp"
server.run(transport=transport, host="127.0.0.1", port=int(port), path=path, show_banner=False)
