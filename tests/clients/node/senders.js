// The official libraries of CloudEvents and Standard Webhooks against Herald. The arguments: Herald's address, a key, the
// secret of the source `webshop`, and Herald's time in seconds.

const assert = require("node:assert");
const { CloudEvent, HTTP } = require("cloudevents");
const { Webhook } = require("standardwebhooks");

const [url, key, secret, seconds] = process.argv.slice(2);
const data = { order_id: "1001", carrier: "DHL", eta: "2026-11-25" };

async function post(path, headers, body) {
  const answer = await fetch(url + path, { method: "POST", headers, body });
  return { status: answer.status, body: await answer.json() };
}

async function cloudevents() {
  const event = (id) => new CloudEvent({ id, source: "/node", type: "order.shipped", recipient: "user-42", data });
  const send = (message) =>
    post("/v1/events", { ...message.headers, Authorization: `Bearer ${key}` }, message.body);
  for (const [name, bind] of [["binary", HTTP.binary], ["structured", HTTP.structured]]) {
    const answer = await send(bind(event(`node-${name}`)));
    assert.strictEqual(answer.status, 202, JSON.stringify(answer.body));
  }
  // Without a time of its own an event gets the present one.
  await new Promise((resolve) => setTimeout(resolve, 5));
  const again = await send(HTTP.structured(event("node-structured")));
  assert.strictEqual(again.status, 409);
  assert.strictEqual(again.body.errors[1].pointer, "/time");
}

async function standardWebhooks() {
  const body = JSON.stringify({ number: 1001, user: "user-42" });
  const send = async (id, signer, said = body) => {
    const signature = signer.sign(id, new Date(seconds * 1000), body);
    const headers = { "webhook-id": id, "webhook-timestamp": seconds, "webhook-signature": signature };
    return post("/v1/hooks/webshop", headers, said);
  };
  const answer = await send("msg_node", new Webhook(secret));
  assert.strictEqual(answer.body.state, "accepted", JSON.stringify(answer.body));
  assert.strictEqual((await send("msg_node", new Webhook(secret), body + " ")).status, 401);
  assert.strictEqual((await send("msg_other", new Webhook("b3RoZXIgc2VjcmV0IG9mIHRoZSBzZW5kZXI="))).status, 401);
}

cloudevents()
  .then(standardWebhooks)
  .then(() => console.log("node finished its run"));
