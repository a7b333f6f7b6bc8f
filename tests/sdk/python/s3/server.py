"""An S3 server for tests: moto, which checks signatures and permissions.

Prints one line of JSON that says where it is and how to get in, answers each line of its standard input
with another, and ends when there are no more:

look          names of the objects, and of those that are being uploaded in parts
put NAME TEXT replaces an object, or makes one
"""

import json
import logging
import sys

import boto3
from moto import settings
from moto.server import ThreadedMotoServer

BUCKET = "freehold-test"
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}

logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
endpoint = "http://{}:{}".format(*server.get_host_and_port())


def client(service: str, key: tuple[str, str] = ("setup", "setup")):
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=key[0],
        aws_secret_access_key=key[1],
    )


client("s3").create_bucket(Bucket=BUCKET)
iam = client("iam")
keys = {}
for name, policy in [("all", EVERYTHING), ("none", None)]:
    iam.create_user(UserName=name)
    if policy:
        iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    keys[name] = (key["AccessKeyId"], key["SecretAccessKey"])
# Until here nothing was checked; from here everything is.
settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
s3 = client("s3", keys["all"])


def names(operation: str, field: str) -> list[str]:
    pages = s3.get_paginator(operation).paginate(Bucket=BUCKET)
    return [found["Key"] for page in pages for found in page.get(field, [])]


print(json.dumps({"endpoint": endpoint, "bucket": BUCKET, **keys}), flush=True)
for line in sys.stdin:
    match line.split():
        case ["look"]:
            answer = {
                "objects": names("list_objects_v2", "Contents"),
                "uploads": names("list_multipart_uploads", "Uploads"),
            }
        case ["put", name, text]:
            s3.put_object(Bucket=BUCKET, Key=name, Body=text.encode())
            answer = {}
        case other:
            raise SystemExit(f"cannot do {other}")
    print(json.dumps(answer), flush=True)
