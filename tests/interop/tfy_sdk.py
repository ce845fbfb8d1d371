"""The SDK of TrueFoundry, as a program uses it: tfy_sdk.py URL. One line of JSON for each step."""

import json
import os
import sys

from truefoundry_sdk import TrueFoundry
from truefoundry_sdk.core.api_error import ApiError

client = TrueFoundry(base_url=os.environ["TFY_HOST"], api_key=os.environ["TFY_API_KEY"])
headers = {"type": "header", "headers": {"X-Key": "sdk-s3cret"}, "auth_level": "global"}
manifest = {
    "type": "mcp-server/remote", "name": "sdk-applied", "description": "Interoperability test", "url": sys.argv[1],
    "auth_data": headers,
}


def say(**what):
    print(json.dumps(what), flush=True)


made = client.apply(manifest=manifest, dry_run=False, force=False)
kind = type(made.data).__name__
say(action=made.action.value, existing=made.existing_manifest, type=kind, name=made.data.manifest["name"])
changed = client.apply(manifest=manifest | {"description": "Another"}, dry_run=True, force=False)
say(action=changed.action.value, existing=getattr(changed.existing_manifest, "name", None) or changed.existing_manifest["name"])
forced = client.apply(manifest=manifest | {"url": sys.argv[1] + "?moved=1"}, dry_run=False, force=True)
say(action=forced.action.value)
client.delete(manifest=manifest)
try:
    client.delete(manifest=manifest)
except ApiError as error:
    say(again=error.status_code)
