//! OneSignal's Templates API, one HTTP call per function.

use reqwest::Method;
use serde_json::Value;

use super::client::{OneSignal, expect_json, refused_here};
use super::wire;
use crate::domain::app::App;
use crate::domain::channel::Channel;
use crate::provider::{ProviderError, RemoteTemplate, TemplatePage, TemplateUpload};

/// Page size of the template list: OneSignal's maximum.
pub(super) const TEMPLATE_PAGE: usize = 50;

impl OneSignal {
    pub(super) async fn post_template(
        &self,
        app: &App,
        upload: &TemplateUpload,
    ) -> Result<String, ProviderError> {
        let request = self.request(app, Method::POST, "templates").map_err(refused_here)?;
        let answer = self.template_call(request.json(&wire::create_template(app.id, upload)), true).await?;
        let template = expect_json(&answer, true)?;
        match template.get("id").and_then(Value::as_str) {
            Some(id) if !id.is_empty() => Ok(id.to_owned()),
            Some(_) | None => Err(ProviderError::Unclear("the response contains no template ID".into())),
        }
    }

    pub(super) async fn template_page(
        &self,
        app: &App,
        channel: Channel,
        offset: usize,
    ) -> Result<TemplatePage, ProviderError> {
        let path = format!(
            "templates?app_id={}&limit={TEMPLATE_PAGE}&offset={offset}&channel={}",
            app.id,
            channel.as_str()
        );
        let request = self.request(app, Method::GET, &path).map_err(refused_here)?;
        let answer = self.template_call(request, false).await?;
        Ok(wire::template_page(&expect_json(&answer, false)?, TEMPLATE_PAGE))
    }

    pub(super) async fn template(
        &self,
        app: &App,
        id: &str,
    ) -> Result<Option<RemoteTemplate>, ProviderError> {
        let request = self.request(app, Method::GET, &place(app, id)).map_err(refused_here)?;
        let answer = self.template_call(request, false).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        let template = wire::template(&expect_json(&answer, false)?);
        template.map(Some).ok_or_else(|| ProviderError::Unreachable("the response is not a template".into()))
    }

    pub(super) async fn patch_template(
        &self,
        app: &App,
        id: &str,
        upload: &TemplateUpload,
    ) -> Result<(), ProviderError> {
        let request = self.request(app, Method::PATCH, &place(app, id)).map_err(refused_here)?;
        let answer = self.template_call(request.json(&wire::update_template(app.id, upload)), true).await?;
        expect_json(&answer, true).map(|_| ())
    }

    pub(super) async fn remove_template(&self, app: &App, id: &str) -> Result<(), ProviderError> {
        let request = self.request(app, Method::DELETE, &place(app, id)).map_err(refused_here)?;
        let answer = self.template_call(request, false).await?;
        if answer.status == 404 {
            return Ok(());
        }
        expect_json(&answer, false).map(|_| ())
    }
}

fn place(app: &App, id: &str) -> String {
    format!("templates/{id}?app_id={}", app.id)
}
