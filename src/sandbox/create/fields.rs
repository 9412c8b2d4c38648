//! The single fields of a Create message: which there are, which channel they belong to, how large they may be.

use serde_json::Value;

use super::super::json::{Object, field, says_something};
use super::super::message::Channel;
use super::super::refusal::Refusal;

/// Email-only fields.
const EMAIL: &str = "email_subject email_body email_preheader email_from_name email_from_address email_sender_domain \
    email_reply_to_address email_bcc include_unsubscribed disable_email_click_tracking";
const SMS: &str = "sms_from sms_media_urls";
/// Push-only fields.
const PUSH: &str = "headings subtitle data buttons web_buttons url web_url app_url ios_attachments big_picture \
    chrome_web_image small_icon large_icon chrome_web_icon firefox_icon chrome_web_badge priority collapse_id \
    web_push_topic thread_id android_group android_channel_id existing_android_channel_id ios_interruption_level \
    ios_sound ios_badgeType ios_badgeCount ios_category content_available isIos isAndroid isHuawei isAnyWeb \
    isChromeWeb isFirefox isSafari isWP_WNS isAdm";
/// Fields of every channel, and the rarer ones of push.
const OTHERS: &str = "app_id template_id custom_data name send_after delayed_option delivery_time_of_day \
    idempotency_key external_id contents include_aliases include_external_user_ids include_subscription_ids \
    include_player_ids email_to include_email_tokens include_phone_numbers included_segments excluded_segments filters \
    target_channel ttl throttle_rate_per_minute enable_frequency_cap isChrome huawei_msg_type mutable_content \
    target_content_identifier global_image huawei_big_picture adm_big_picture chrome_big_picture huawei_channel_id \
    huawei_existing_channel_id android_background_layout huawei_small_icon huawei_large_icon adm_small_icon \
    adm_large_icon chrome_icon android_sound huawei_sound adm_sound wp_wns_sound android_led_color huawei_led_color \
    android_accent_color huawei_accent_color android_visibility huawei_visibility apns_alert apns_push_type_override \
    android_group_message adm_group adm_group_message summary_arg summary_arg_count ios_relevance_score \
    huawei_badge_class huawei_badge_add_num huawei_badge_set_num huawei_category huawei_bi_tag isEmail isSMS";

/// Maximum length of a string.
const LENGTHS: [(&str, usize); 3] = [("name", 128), ("collapse_id", 64), ("web_push_topic", 64)];
/// Maximum entries of a list.
const COUNTS: [(&str, usize); 3] = [("buttons", 3), ("web_buttons", 2), ("email_bcc", 5)];
/// Minimum and maximum of an integer.
const RANGES: [(&str, i64, i64); 1] = [("ttl", 0, 2_419_200)];
/// Allowed values of a string.
const CHOICES: [(&str, &[&str]); 2] = [
    ("ios_interruption_level", &["active", "passive", "time_sensitive", "critical"]),
    ("ios_badgeType", &["None", "SetTo", "Increase"]),
];

/// Checks lengths, counts, ranges and choices.
pub(super) fn check(request: &Object) -> Result<(), Refusal> {
    for (name, max) in LENGTHS {
        let Some(value) = field(request, name) else { continue };
        if value.as_str().is_none_or(|text| text.chars().count() > max) {
            return Err(Refusal::bad(format!("{name} must be a text of at most {max} characters.")));
        }
    }
    for (name, max) in COUNTS {
        let Some(value) = field(request, name) else { continue };
        if value.as_array().is_none_or(|items| items.len() > max) {
            return Err(Refusal::bad(format!("{name} must be a list of at most {max} entries.")));
        }
    }
    for (name, min, max) in RANGES {
        let Some(value) = field(request, name) else { continue };
        if value.as_i64().is_none_or(|number| !(min..=max).contains(&number)) {
            return Err(Refusal::bad(format!("{name} must be a whole number from {min} to {max}.")));
        }
    }
    for (name, choices) in CHOICES {
        let Some(value) = field(request, name) else { continue };
        if value.as_str().is_none_or(|text| !choices.contains(&text)) {
            return Err(Refusal::bad(format!("{name} must be one of {}.", choices.join(", "))));
        }
    }
    priority(request)
}

fn priority(request: &Object) -> Result<(), Refusal> {
    match field(request, "priority").map(Value::as_i64) {
        None | Some(Some(5 | 10)) => Ok(()),
        Some(_) => Err(Refusal::bad("priority must be 10 or 5.")),
    }
}

/// The channels that the request's fields belong to.
pub(super) fn channels(request: &Object) -> Vec<Channel> {
    let groups = [(PUSH, Channel::Push), (EMAIL, Channel::Email), (SMS, Channel::Sms)];
    let flags = [("isEmail", Channel::Email), ("isSMS", Channel::Sms)];
    let by_name =
        groups.into_iter().filter(|(names, _)| names.split_whitespace().any(|name| means(request, name)));
    let by_flag = flags.into_iter().filter(|(name, _)| means(request, name));
    by_name.map(|(_, channel)| channel).chain(by_flag.map(|(_, channel)| channel)).collect()
}

/// Warns about unknown fields, which OneSignal ignores: usually typos.
pub(super) fn unknown(request: &Object) -> Vec<String> {
    let known = |wanted: &str| {
        [OTHERS, PUSH, EMAIL, SMS].iter().any(|names| names.split_whitespace().any(|name| name == wanted))
    };
    let unknown = request.keys().filter(|name| !known(name));
    unknown.map(|name| format!("OneSignal does not know the field `{name}` and ignores it")).collect()
}

fn means(request: &Object, name: &str) -> bool {
    says_something(request, name) && request.get(name) != Some(&Value::Bool(false))
}
