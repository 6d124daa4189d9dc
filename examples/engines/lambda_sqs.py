"""AWS Lambda behind SQS: a message is a session's id; what is not due is hidden until it is."""

import os
from datetime import UTC, datetime

import boto3

from writeahead import RunPolicy, resume_item
from writeahead.items import AdapterSpec

STORE, ADAPTER = os.environ["WRITEAHEAD_STORE"], AdapterSpec(os.environ["WRITEAHEAD_ADAPTER"])
POLICY = RunPolicy(run_limit=20, lease=60)  # a batch of 10 within a time limit of 240 s
LONGEST = 11 * 3600  # seconds; SQS hides a message for 12 hours at most, from when it was received
sqs = boto3.client("sqs")


def handler(event, context):
    again = []
    for record in event["Records"]:
        outcome = resume_item(STORE, ADAPTER, record["body"], policy=POLICY)
        if outcome.not_before:
            wait = max(1, min(LONGEST, int((outcome.not_before - datetime.now(UTC)).total_seconds()) + 1))
            sqs.change_message_visibility(
                QueueUrl=os.environ["QUEUE_URL"],
                ReceiptHandle=record["receiptHandle"],
                VisibilityTimeout=wait,
            )
            again.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": again}
