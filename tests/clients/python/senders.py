"""The official libraries of CloudEvents (both of its interfaces) and Standard Webhooks against Herald.

The arguments: Herald's address, a key, the secret of the source `webshop`, and Herald's time in seconds.
"""

import http.client
import json
import sys
from datetime import datetime, timezone
from urllib.parse import urlsplit

from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1.http import CloudEvent as EarlierCloudEvent
from cloudevents.v1.http import to_binary, to_structured
from standardwebhooks.webhooks import Webhook

URL, KEY, SECRET, SECONDS = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
DATA = {"order_id": "1001", "carrier": "DHL", "eta": "2026-11-25"}


def post(path, headers, body):
    """Sends these headers and no others of its own."""
    connection = http.client.HTTPConnection(urlsplit(URL).netloc)
    body = body if isinstance(body, bytes) else body.encode()
    connection.request("POST", path, body, dict(headers))
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def taken(headers, body, path="/v1/events"):
    status, answer = post(path, {**headers, "Authorization": f"Bearer {KEY}"}, body)
    assert status == 202, (status, answer)
    return answer


def attributes(identifier):
    return {"id": identifier, "source": "/python", "type": "order.shipped", "recipient": "user-42"}


def cloudevents():
    now = datetime.now(tz=timezone.utc)
    for name, bind in [("binary", to_binary_event), ("structured", to_structured_event)]:
        event = CloudEvent({**attributes(f"core-{name}"), "specversion": "1.0", "time": now}, DATA)
        message = bind(event)
        taken(message.headers, message.body)
    for name, bind in [("binary", to_binary), ("structured", to_structured)]:
        headers, body = bind(EarlierCloudEvent(attributes(f"earlier-{name}"), DATA))
        taken(headers, body)
    # Without a time of its own an event gets the present one: a repeat is another event, and the answer says why.
    headers, body = to_structured(EarlierCloudEvent(attributes("earlier-structured"), DATA))
    status, problem = post("/v1/events", {**headers, "Authorization": f"Bearer {KEY}"}, body)
    assert status == 409 and problem["errors"][1]["pointer"] == "/time", problem


def standard_webhooks():
    body = json.dumps({"number": 1001, "user": "user-42"})
    signature = Webhook(SECRET).sign("msg_python", datetime.fromtimestamp(SECONDS, tz=timezone.utc), body)
    headers = {"webhook-id": "msg_python", "webhook-timestamp": str(SECONDS), "webhook-signature": signature}
    status, answer = post("/v1/hooks/webshop", headers, body)
    assert status == 202 and answer["state"] == "accepted", (status, answer)
    assert post("/v1/hooks/webshop", headers, body + " ")[0] == 401


cloudevents()
standard_webhooks()
print("python finished its run")
