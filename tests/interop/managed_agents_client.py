"""What the runtime of a managed agent does with a server of the tool gateway, by the package's own code:

managed_agents_client.py pending|call|authorize ID_OR_SLUG

`pending` prints what is still to be connected, `call` the names of the tools and what `whoami` says, `authorize` the
consent of a connection.
"""

import asyncio
import json
import os
import sys
import warnings

warnings.simplefilter("ignore")

from managed_deepagents import define_mcp  # noqa: E402
from managed_deepagents._agent_auth import AgentAuth, AgentAuthContext  # noqa: E402
from managed_deepagents._connectors.mcp import load  # noqa: E402

command, named = sys.argv[1:]
base = os.environ["LANGSMITH_ENDPOINT"]
context = AgentAuthContext(
    base_url=base, principal_id=os.environ["IDENTITY"], api_key=os.environ["LANGSMITH_API_KEY"],
    workspace_id=os.environ["WORKSPACE"] or None,
)


async def call(definition):
    tools = await load.load_caller_mcp_tools(definition, {}, context)
    whoami = next(tool for tool in tools if tool.name == "server_whoami")
    return {"tools": [tool.name.removeprefix("server_") for tool in tools], "said": str(await whoami.ainvoke({}))}


if command == "authorize":
    auth = AgentAuth(context)
    principal = auth.resolve_principal({"provider": "oidc", "subject": os.environ["IDENTITY"]})
    assert principal == os.environ["IDENTITY"], principal
    said = auth.start_authorization_session(named)
else:
    url = f"{base}/v1/managed-tools/servers/{named}/mcp"
    definition = define_mcp(servers={"server": {"transport": "http", "url": url}})
    if command == "pending":
        said = load.collect_pending_managed_tools_credentials(definition, context)
    else:
        said = asyncio.run(call(definition))
print(json.dumps(said))
