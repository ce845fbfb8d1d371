"""Checks `template.yaml` as CloudFormation would see it, without AWS: transformed as SAM does, under two stack names.

    python3 tests/template.py [TRANSFORMED]

Writes the transformed template to the file TRANSFORMED, for tools that know CloudFormation alone. No resource of one stack may have a name that the other one's has, for one account holds both. Which properties are names is
taken from CloudFormation's own resource schemas. Needs aws-sam-cli, for its aws-sam-translator and cfn-lint.
"""

import json
import pathlib
import re
import sys
import tomllib

import boto3
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER
from samcli.yamlhelper import yaml_parse
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

ROOT = pathlib.Path(__file__).resolve().parent.parent
PSEUDO = {"AWS::Region": "us-east-1", "AWS::AccountId": "123456789012", "AWS::Partition": "aws", "AWS::URLSuffix": "amazonaws.com"}


def transformed():
    """The template without SAM's own resources, as a deployment by the defaults would send it."""
    session = boto3.session.Session(region_name="us-east-1")
    template = yaml_parse((ROOT / "template.yaml").read_text())
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = "s3://code/key"
    template["Globals"]["Function"]["CodeUri"] = "s3://code/key"
    defaults = {name: one["Default"] for name, one in template["Parameters"].items() if "Default" in one}
    translator = Translator({}, Parser(), boto_session=session)
    return translator.translate(template, parameter_values={**defaults, **PSEUDO})


def resolved(value, stack, defaults):
    """A property's value, as text that differs between stacks if the value does."""
    known = {"AWS::StackName": stack, **PSEUDO, **defaults}
    if isinstance(value, dict) and len(value) == 1:
        (function, of), = value.items()
        if function == "Ref":
            return str(known.get(of, f"<{stack}.{of}>"))
        if function == "Fn::GetAtt":
            return f"<{stack}.{of}>"
        if function == "Fn::Sub" and isinstance(of, str):
            return re.sub(r"\$\{([^}]+)\}", lambda m: str(known.get(m[1], f"<{stack}.{m[1]}>")), of)
    if isinstance(value, dict):
        return json.dumps({name: resolved(one, stack, defaults) for name, one in value.items()}, sort_keys=True)
    return str(value)


def name_of(resource):
    """The properties that name a resource, unless CloudFormation is to make a name of its own."""
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", resource["Type"]).schema
    made = set(schema.get("readOnlyProperties", []))
    chosen = [path for path in schema["primaryIdentifier"] if path not in made]
    properties = [path.removeprefix("/properties/") for path in chosen]
    given = resource.get("Properties", {})
    return {name: given[name] for name in properties} if chosen and all(name in given for name in properties) else None


def check_streams(resources):
    """Everything at the REST API streams, from the function for calls, which that API alone may invoke."""
    api = resources["McpApi"]["Properties"]
    methods = {path: methods for path, methods in api["Body"]["paths"].items()}
    assert set(methods) == {"/", "/{proxy+}"}, methods
    for path, method in methods.items():
        integration = method["x-amazon-apigateway-any-method"]["x-amazon-apigateway-integration"]
        uri = integration["uri"]["Fn::Sub"]
        assert uri.endswith("/2021-11-15/functions/${HawserInvokeFunction.Arn}/response-streaming-invocations"), uri
        assert (integration["responseTransferMode"], integration["timeoutInMillis"]) == ("STREAM", 900_000), integration
        assert resources["HawserInvokeFunction"]["Properties"]["Timeout"] * 1000 >= integration["timeoutInMillis"]
    stages = [one["Properties"] for one in resources.values() if one["Type"] == "AWS::ApiGateway::Stage"]
    assert [one["StageName"] for one in stages] == ["mcp"], stages
    throttling = stages[0]["MethodSettings"][0]
    assert {"ThrottlingRateLimit", "ThrottlingBurstLimit"} < set(throttling), throttling
    assert not [one for one in resources.values() if one["Type"] == "AWS::Lambda::Url"], "a function has a URL past the gateway"


def main():
    template = transformed()
    defaults = {name: one.get("Default", f"<{name}>") for name, one in template["Parameters"].items()}
    names, shared = {}, []
    for stack in ("first", "second"):
        for logical, resource in template["Resources"].items():
            name = name_of(resource)
            # What is named by a parameter alone is not created without it.
            if name is None or all(defaults.get(one.get("Ref")) == "" for one in name.values() if isinstance(one, dict)):
                continue
            key = (resource["Type"], resolved(name, stack, defaults))
            if names.setdefault(key, stack) != stack:
                shared.append(f"{logical} ({resource['Type']}): {key[1]}")
        for output, one in template.get("Outputs", {}).items():
            if "Export" in one and names.setdefault(("export", resolved(one["Export"], stack, defaults)), stack) != stack:
                shared.append(f"the export of {output}")
    if shared:
        sys.exit("two stacks in one account would share\n  " + "\n  ".join(shared))
    schedules = [one for one in template["Resources"].values() if one["Type"] == "AWS::Scheduler::Schedule"]
    assert len(schedules) == 2, schedules
    check_streams(template["Resources"])
    config = tomllib.loads((ROOT / "samconfig.toml").read_text())["default"]
    for pair in config["deploy"]["parameters"].get("parameter_overrides", []):
        assert pair.split("=", 1)[0] in template["Parameters"], pair
    if len(sys.argv) > 1:
        pathlib.Path(sys.argv[1]).write_text(json.dumps(template, indent=1, default=str))
    print(f"template: {len(template['Resources'])} resources, {len(names) // 2} of them named, none alike in two stacks")


main()
