"""Creates stacks of the transformed template in an emulator of CloudFormation: two in one account, then one on what the first has left.

    python3 tests/stacks.py ENDPOINT TRANSFORMED

ENDPOINT is where ministack listens, TRANSFORMED what tests/template.py has written. Needs boto3.
"""

import io
import json
import sys
import zipfile

import boto3

ENDPOINT, TRANSFORMED = sys.argv[1:3]
KNOWN = {"region_name": "us-east-1", "aws_access_key_id": "123456789012", "aws_secret_access_key": "none"}


def client(service):
    return boto3.client(service, endpoint_url=ENDPOINT, **KNOWN)


def main():
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("bootstrap", "#!/bin/sh\n")
    s3, cloudformation = client("s3"), client("cloudformation")
    s3.create_bucket(Bucket="code")
    s3.put_object(Bucket="code", Key="key", Body=code.getvalue())
    s3.put_object(Bucket="code", Key="template", Body=json.dumps(json.load(open(TRANSFORMED))))

    def create(name, **parameters):
        given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
        url = f"{ENDPOINT}/code/template"
        cloudformation.create_stack(StackName=name, TemplateURL=url, Parameters=given, Capabilities=["CAPABILITY_IAM"])
        cloudformation.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
        stack = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
        return {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]}

    def resources(name):
        pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=name)
        return {one["LogicalResourceId"]: one.get("PhysicalResourceId") for page in pages for one in page["StackResourceSummaries"]}

    first, second = create("first"), create("second", JwtIssuer="https://issuer.example", JwtAudience="hawser")
    assert first["TableArn"] != second["TableArn"] and first["KeyArn"] != second["KeyArn"], (first, second)
    left = {"TableArn": "ExistingTableArn", "TableStreamArn": "ExistingTableStreamArn", "KeyArn": "ExistingKeyArn"}
    again = create("again", **{parameter: first[output] for output, parameter in left.items()})
    assert all(again[output] == first[output] for output in [*left, "TableName"]), (first, again)
    assert not {"Table", "Key"} & set(resources("again")), "a table or a key was created in vain"
    variables = client("lambda").get_function(FunctionName=resources("again")["WorkersSweepFunction"])["Configuration"]["Environment"]["Variables"]
    assert (variables["HAWSER_TABLE"], variables["HAWSER_KMS_KEY_ID"]) == (first["TableName"], first["KeyArn"]), variables

    named = create("named", DomainName="mcp.example.com", CertificateArn="arn:aws:acm:us-east-1:123456789012:certificate/12345678-1234-1234-1234-123456789012")
    assert named["Url"] == named["InvokeUrl"] == "https://mcp.example.com" and named["DomainTarget"], named
    assert first["Url"] != first["InvokeUrl"] and "DomainTarget" not in first, first
    mappings = client("apigatewayv2").get_api_mappings(DomainName="mcp.example.com")["Items"]
    apis = {one.get("ApiMappingKey", ""): one["ApiId"] for one in mappings}
    assert apis == {"": resources("named")["Api"], "mcp": resources("named")["McpApi"]}, mappings
    variables = client("lambda").get_function(FunctionName=resources("named")["HawserInvokeFunction"])["Configuration"]["Environment"]["Variables"]
    assert variables["HAWSER_GATEWAY_URL"] == variables["HAWSER_PUBLIC_URL"] == "https://mcp.example.com", variables
    print("stacks: two in one account, one on what another has left, and one with a domain name")


main()
