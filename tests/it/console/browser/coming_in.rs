//! Stories of coming in: by a link from elsewhere, with a second factor, and what a preview loads.

use herald::domain::clock::Clock;
use totp_rs::{Builder, Secret};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_on_another_site_opens_its_page_for_a_logged_in_member() {
    let Some(browser) = Browser::open().await else { return };
    let app = TestApp::start().await;
    browser.log_in(&app, Role::Viewer).await;
    let chat = format!("<a id=link href='{}/rules/order-shipped-push'>look</a>", app.url);
    let site =
        axum::Router::new().route("/", axum::routing::get(move || async move { axum::response::Html(chat) }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move { axum::serve(listener, site).await });
    // A name of its own makes it another site.
    browser.client.goto(&format!("http://localhost:{port}/")).await.unwrap();
    browser.click("#link").await;
    browser.wait(".rail a[href='/rules'][aria-current]").await;
    assert_eq!(browser.client.current_url().await.unwrap().path(), "/rules/order-shipped-push");
    // Without a session the same link leads to the log-in, and not around in circles.
    browser.client.delete_all_cookies().await.unwrap();
    browser.client.goto(&format!("http://localhost:{port}/")).await.unwrap();
    browser.click("#link").await;
    browser.wait("[name=password]").await;
    assert_eq!(browser.client.current_url().await.unwrap().path(), "/log-in");
    server.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_factor_is_set_up_and_asked_for() {
    let Some(browser) = Browser::open().await else { return };
    let app = TestApp::start().await;
    browser.log_in(&app, Role::Admin).await;
    browser.click(".rail a[href='/settings']").await;
    browser.click("a[href='/settings/second-factor']").await;
    browser.click("main button.primary").await;
    browser.wait(".qr svg").await;
    browser.click(".steps summary").await;
    let key = browser.wait(".steps details code").await.text().await.unwrap().replace(' ', "");
    let secret = Secret::try_from_base32(&key).unwrap();
    let authenticator = Builder::new().with_secret(secret).build().unwrap();
    let code = || authenticator.generate(u64::try_from(app.clock.now().timestamp()).unwrap()).to_string();
    browser.write("[name=code]", &code()).await;
    browser.press(ENTER).await;
    browser.says("Your recovery codes").await;
    app.clock.advance(Duration::from_mins(11));
    browser.click(".who form button").await;
    browser.write("[name=email]", "admin@shop.example").await;
    browser.write("[name=password]", PASSWORD).await;
    browser.click("button.primary").await;
    browser.says("Enter your code").await;
    browser.write("[name=code]", &code()).await;
    browser.press(ENTER).await;
    browser.says("Live").await;
    // Ten minutes later keys ask who it is.
    app.clock.advance(Duration::from_mins(11));
    browser.client.goto(&format!("{}/settings/keys", app.url)).await.unwrap();
    browser.says("Confirm it’s you").await;
    browser.write("[name=password]", PASSWORD).await;
    browser.press(ENTER).await;
    browser.says("Sources and keys").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_s_images_are_asked_for_by_a_click() {
    let Some(browser) = Browser::open().await else { return };
    let app = TestApp::start().await;
    browser.log_in(&app, Role::Editor).await;
    browser.client.goto(&format!("{}/templates/order-shipped-email", app.url)).await.unwrap();
    browser.write_copy("en.body", "<p>Hello</p><img src=\"https://images.invalid/a.png\">").await;
    browser.says("Images are not loaded").await;
    let src = async || {
        let frame = browser.wait("#preview section[data-locale=en] iframe.wide").await;
        frame.attr("src").await.unwrap().unwrap()
    };
    assert_eq!(src().await, "/mail-frame");
    browser.click("#preview section[data-locale=en] [data-loads-images]").await;
    assert_eq!(src().await, "/mail-frame?images=yes");
}
