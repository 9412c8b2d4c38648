//! Stories of the editor.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_admin_sets_up_edits_sees_a_problem_fixes_it_publishes_and_goes_back() {
    let Some(browser) = Browser::open().await else { return };
    let app = TestApp::start().await;
    let token = app.herald.team.offer_set_up().await.unwrap().unwrap();
    browser.client.goto(&app.url).await.unwrap();
    browser.says("Set up the console").await;
    browser.write("[name=token]", secrecy::ExposeSecret::expose_secret(&token)).await;
    browser.write("[name=name]", "Mia").await;
    browser.write("[name=email]", "mia@shop.example").await;
    browser.write("[name=password]", PASSWORD).await;
    browser.click("button.primary").await;
    browser.says("No events yet").await;

    browser.click(".rail a[href='/templates']").await;
    browser.click("a[href='/templates/order-shipped-push']").await;
    browser.says("Hi Anna, DHL brings order 1001").await;
    browser.write_copy("en.contents", "Hi {{ data.carier }}").await;
    browser.says("carrier").await;
    browser.wait(".problems li.error").await;
    // A problem's place is a way there; the editor underlines it.
    browser.wait(".cm-lintRange-error").await;
    browser.click(".problems [data-goes]").await;
    browser.selects("data.carier").await;
    // Half a word is completed from the event's schema.
    browser.write_copy("en.contents", "Hello from {{ data.ca").await;
    browser.wait(".cm-tooltip-autocomplete li[aria-selected]").await;
    browser.click(".cm-tooltip-autocomplete li[aria-selected]").await;
    assert_eq!(browser.copy("en.contents").await, "Hello from {{ data.carrier }}");
    browser.says("Hello from DHL").await;
    browser.click("#editor button.save").await;
    browser.says("Draft saved.").await;
    browser.click("[name=then]").await;
    browser.says("Publish version 2").await;
    browser.click("form[action$='/publish'] button.primary").await;
    browser.says("Version 2 is live").await;
    // A question comes before the way back.
    browser.click("form[action$='/rollback'] button").await;
    assert!(browser.client.get_alert_text().await.unwrap().contains("version 1"));
    browser.client.accept_alert().await.unwrap();
    browser.says("restores v1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unsaved_work_outlives_a_reload() {
    let Some(browser) = Browser::open().await else { return };
    let app = TestApp::start().await;
    browser.log_in(&app, Role::Editor).await;
    let page = format!("{}/templates/order-shipped-push", app.url);
    browser.client.goto(&page).await.unwrap();
    browser.write_copy("en.contents", "Half a thought").await;
    browser.says("Unsaved changes").await;
    browser.client.execute("window.onbeforeunload = null; location.reload()", vec![]).await.ok();
    browser.client.accept_alert().await.ok();
    browser.says("Unsaved changes from").await;
    browser.click("[data-saved] button").await;
    assert_eq!(browser.copy("en.contents").await, "Half a thought");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_is_shown_with_its_styles_in_a_frame_without_rights() {
    let Some(browser) = Browser::open().await else { return };
    let app = TestApp::start().await;
    browser.log_in(&app, Role::Editor).await;
    browser.client.goto(&format!("{}/templates/order-shipped-email", app.url)).await.unwrap();
    let mail = "<p style=\"color: rgb(1, 2, 3)\" id=\"styled\">Styled {{ data.carrier }}</p><script>parent.document.title = 'taken'; document.title = 'taken'</script><img src=\"data:,x\" onerror=\"document.body.id = 'ran'\">";
    browser.write_copy("en.body", mail).await;
    let frame = "#preview section[data-locale=en] iframe.wide";
    let began = std::time::Instant::now();
    loop {
        browser.wait(frame).await.enter_frame().await.ok();
        let styled = browser.client.find(Locator::Css("#styled")).await;
        if let Ok(styled) = styled {
            assert_eq!(styled.css_value("color").await.unwrap(), "rgba(1, 2, 3, 1)");
            assert_eq!(styled.text().await.unwrap(), "Styled DHL");
            break;
        }
        browser.client.clone().enter_parent_frame().await.ok();
        assert!(began.elapsed() < PATIENCE, "the mail was never shown");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(browser.client.find(Locator::Css("#ran")).await.is_err(), "what the mail brought along was run");
    browser.client.clone().enter_parent_frame().await.unwrap();
    assert_ne!(browser.client.title().await.unwrap(), "taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_to_save_sees_both_texts_and_loses_neither() {
    let Some(browser) = Browser::open().await else { return };
    let app = TestApp::start().await;
    browser.log_in(&app, Role::Editor).await;
    browser.client.goto(&format!("{}/templates/order-shipped-push", app.url)).await.unwrap();
    browser.write_copy("en.contents", "Words of the browser").await;
    let tom = Visitor::with_role(&app, Role::Publisher).await;
    let form = [
        ("revision", "0"),
        ("default_locale", "en"),
        ("mode", "provider"),
        ("copy.en.contents", "Words of Tom"),
    ];
    assert_eq!(tom.post("/templates/order-shipped-push/draft", &form).await.status, 303);
    browser.click("#editor button.save").await;
    browser.says("Nothing is lost").await;
    browser.says("Words of Tom").await;
    // Leaving now would lose what is not saved by either; the browser asks, and keeps it in any case.
    let kept = "return localStorage.getItem('herald draft order-shipped-push') ?? ''";
    let kept = browser.client.execute(kept, vec![]).await.unwrap();
    assert!(kept.as_str().unwrap().contains("Words of the browser"), "{kept}");
    assert_eq!(browser.copy("en.contents").await, "Words of the browser");
    browser.write_copy("en.contents", "Words of both").await;
    browser.click("#editor button.save").await;
    browser.says("Draft saved.").await;
    assert_eq!(browser.copy("en.contents").await, "Words of both");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_is_edited_and_published_without_a_mouse() {
    let Some(browser) = Browser::open().await else { return };
    let app = TestApp::start().await;
    browser.log_in(&app, Role::Publisher).await;
    browser.press("g").await;
    browser.press("t").await;
    browser.tab_to("a[href='/templates/order-shipped-push']").await;
    browser.press(ENTER).await;
    browser.tab_to("[data-box='copy.en.contents'] .cm-content").await;
    let mark_all_and_write =
        format!("{}a{}Typed, {{{{ data.carrier }}}}", char::from(Key::Control), char::from(Key::Null));
    browser.press(&mark_all_and_write).await;
    browser.says("Typed, DHL").await;
    browser.press(&format!("{}s", char::from(Key::Control))).await;
    browser.says("Draft saved.").await;
    browser.tab_to("[name=then]").await;
    browser.press(ENTER).await;
    browser.tab_to("input[name=note]").await;
    browser.press("by hand").await;
    browser.tab_to("form[action$='/publish'] button.primary").await;
    browser.press(ENTER).await;
    browser.says("Version 2 is live").await;
    browser.says("by hand").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enter_in_a_small_field_saves_and_does_not_go_on_to_publish() {
    let Some(browser) = Browser::open().await else { return };
    let app = TestApp::start().await;
    browser.log_in(&app, Role::Editor).await;
    browser.client.goto(&format!("{}/templates/order-shipped-push", app.url)).await.unwrap();
    browser.write("[name=add_locale]", "fr").await;
    browser.press(ENTER).await;
    browser.says("Draft saved.").await;
    browser.wait("details.locale[data-locale=fr]").await;
}
