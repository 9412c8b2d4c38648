// OneSignal's Node client against a sandbox; the first argument is its address.
"use strict";

const assert = require("node:assert");
const OneSignal = require("@onesignal/node-onesignal");

const APP = "5a0d0000-0000-4000-8000-000000000001";

/** The call ends with this status. */
async function refused(status, call) {
  await assert.rejects(call, (refusal) => refusal.code === status);
}

async function users(api) {
  await api.createUser(APP, {
    identity: { external_id: "node-1" },
    properties: { tags: { plan: "gold" }, language: "de" },
    subscriptions: [{ type: "Email", token: "node@shop.example" }],
  });
  const seen = await api.getUser(APP, "external_id", "node-1");
  assert.deepStrictEqual(seen.properties.tags, { plan: "gold" });
  await api.updateUser(APP, "external_id", "node-1", { properties: { tags: { plan: "tin" } } });
  await api.createAlias(APP, "external_id", "node-1", { identity: { crm: "n9" } });
  assert.strictEqual((await api.getAliases(APP, "crm", "n9")).identity.external_id, "node-1");
  await api.deleteAlias(APP, "external_id", "node-1", "crm");
}

async function templates(api) {
  const template = await api.createTemplate({ app_id: APP, name: "node", contents: { en: "Hi" } });
  await api.updateTemplate(template.id, APP, { name: "renamed" });
  assert.strictEqual((await api.viewTemplate(template.id, APP)).name, "renamed");
  return template.id;
}

async function messages(api, template) {
  const sent = await api.createNotification({
    app_id: APP,
    template_id: template,
    target_channel: "push",
    include_aliases: { external_id: ["node-2"] },
    custom_data: { order: { id: "1001" } },
    idempotency_key: "0190a5b0-0000-7000-8000-00000000000b",
  });
  assert.ok(sent.id);
  assert.strictEqual((await api.getNotification(APP, sent.id)).successful, 1);
  const later = await api.createNotification({
    app_id: APP,
    contents: { en: "Later" },
    target_channel: "push",
    include_aliases: { external_id: ["node-2"] },
    send_after: new Date(Date.now() + 3_600_000).toISOString(),
  });
  assert.strictEqual((await api.cancelNotification(APP, later.id)).success, true);
  assert.ok((await api.getNotifications(APP)).total_count >= 2);
  await refused(404, () => api.getNotification(APP, "0190a5b0-0000-4000-8000-00000000000a"));
}

async function rest(api, template) {
  const filters = [{ field: "tag", key: "plan", relation: "=", value: "gold" }];
  const segment = await api.createSegment(APP, { name: "Node", filters });
  await api.deleteSegment(APP, segment.id);
  await api.createCustomEvents(APP, { events: [{ name: "bought", external_id: "node-1", payload: { sku: "9" } }] });
  assert.strictEqual((await api.getOutcomes(APP, "os__click.count")).outcomes[0].value, 0);
  await api.deleteTemplate(template, APP);
  await api.deleteUser(APP, "external_id", "node-1");
  await refused(404, () => api.getUser(APP, "external_id", "node-1"));
}

async function main() {
  const api = new OneSignal.DefaultApi(
    OneSignal.createConfiguration({
      baseServer: new OneSignal.ServerConfiguration(process.argv[2], {}),
      restApiKey: "os_v2_app_sandbox",
    }),
  );
  await users(api);
  const template = await templates(api);
  await messages(api, template);
  await rest(api, template);
  console.log("the Node client finished its run");
}

main();
