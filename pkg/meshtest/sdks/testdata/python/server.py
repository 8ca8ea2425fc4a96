"""A FastMCP server: PORT JOURNAL KIND. It writes each tool that runs to the journal."""

import sys
from typing import Any

from fastmcp import FastMCP

port, journal, kind = sys.argv[1:]


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
def safe(x: Any = None) -> str:
    """Does no harm"""
    ran("safe")
    return "safe"


@server.tool
def danger(x: Any = None) -> str:
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


def named(name: str) -> None:
    @server.resource(f"file:///{name}")
    def file() -> str:
        ran(f"file:///{name}")
        return name

    @server.prompt(name=name)
    def prompt() -> str:
        ran(f"prompt {name}")
        return name


named("safe")
named("danger")


@server.prompt
def greet() -> str:
    return "hello"


if kind == "sse":
    server.run(transport="sse", host="127.0.0.1", port=int(port), path="/sse", show_banner=False)
else:
    server.run(transport="http", host="127.0.0.1", port=int(port), path="/mcp", stateless_http=kind == "stateless", show_banner=False)
