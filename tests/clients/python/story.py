"""OneSignal's Python client against a sandbox; the first argument is its address."""

import sys
from datetime import datetime, timedelta, timezone

import onesignal
from onesignal import models
from onesignal.api import default_api

APP = "5a0d0000-0000-4000-8000-000000000001"


def refused(status, call):
    """The call ends with this status."""
    try:
        call()
    except onesignal.ApiException as refusal:
        assert refusal.status == status, refusal
    else:
        raise AssertionError(f"{status} was expected")


def users(api):
    person = models.User(
        identity={"external_id": "python-1"},
        properties=models.PropertiesObject(tags={"plan": "gold"}, language="de"),
        subscriptions=[models.Subscription(type="Email", token="python@shop.example")],
    )
    made = api.create_user(APP, person)
    assert made.identity["external_id"] == "python-1"
    seen = api.get_user(APP, "external_id", "python-1")
    assert seen.properties["tags"] == {"plan": "gold"}, seen
    change = models.UpdateUserRequest(properties=models.PropertiesObject(tags={"plan": "tin"}))
    api.update_user(APP, "external_id", "python-1", change)
    api.create_alias(APP, "external_id", "python-1", models.UserIdentityBody(identity={"crm": "p9"}))
    assert api.get_aliases(APP, "crm", "p9").identity["external_id"] == "python-1"
    api.delete_alias(APP, "external_id", "python-1", "crm")
    sms = models.SubscriptionBody(subscription=models.Subscription(type="SMS", token="+12025550101"))
    made = api.create_subscription(APP, "external_id", "python-1", sms)
    api.delete_subscription(APP, made.subscription.id)


def templates(api):
    wanted = models.CreateTemplateRequest(app_id=APP, name="python", contents=models.LanguageStringMap(en="Hi"))
    template = api.create_template(wanted)
    api.update_template(template.id, APP, models.UpdateTemplateRequest(name="renamed"))
    assert api.view_template(template.id, APP).name == "renamed"
    assert any(one.id == template.id for one in api.view_templates(APP).templates)
    return template.id


def messages(api, template):
    message = models.Notification(
        app_id=APP,
        template_id=template,
        target_channel="push",
        include_aliases={"external_id": ["python-2"]},
        custom_data={"order": {"id": "1001"}},
    )
    sent = api.create_notification(message)
    assert sent.id, sent
    assert api.get_notification(APP, sent.id).successful == 1
    later = models.Notification(
        app_id=APP,
        contents=models.LanguageStringMap(en="Later"),
        target_channel="push",
        include_aliases={"external_id": ["python-2"]},
        send_after=datetime.now(timezone.utc) + timedelta(hours=1),
    )
    waiting = api.create_notification(later)
    assert api.cancel_notification(APP, waiting.id).success
    assert api.get_notifications(APP).total_count >= 1
    assert api.export_events(sent.id, APP).csv_file_url.startswith("http")
    refused(404, lambda: api.get_notification(APP, "0190a5b0-0000-4000-8000-00000000000a"))


def the_rest(api, template):
    # No segment here: this client takes no filter, since one fits both halves of its `oneOf`.
    event = models.CustomEvent(name="bought", external_id="python-1", payload={"sku": "9"})
    api.create_custom_events(APP, models.CustomEventsRequest(events=[event]))
    outcomes = api.get_outcomes(APP, "os__click.count")
    assert outcomes.outcomes[0].value == 0, outcomes
    api.delete_template(template, APP)
    api.delete_user(APP, "external_id", "python-1")
    refused(404, lambda: api.get_user(APP, "external_id", "python-1"))


def main():
    settings = onesignal.Configuration(host=sys.argv[1], rest_api_key="os_v2_app_sandbox")
    with onesignal.ApiClient(settings) as client:
        api = default_api.DefaultApi(client)
        users(api)
        template = templates(api)
        messages(api, template)
        the_rest(api, template)
    print("the Python client finished its run")


main()
