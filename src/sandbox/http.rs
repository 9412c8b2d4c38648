//! The server: routes, faults before and after the answer, counts.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::{Extension, Json, Router};
use futures_util::stream;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::faults::{Fault, Kind};
use super::options::Exchange;
use super::refusal::{Refusal, rate_limited};
use super::wire::{CuttableListener, Scissors};
use super::{Sandbox, control, host, inbox, routes};

/// Room for 20,000 targets with long ids.
const BODY_LIMIT: usize = 8 * 1024 * 1024;
const UNAVAILABLE_PAGE: &str = "<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head>\
    <body><center><h1>502 Bad Gateway</h1></center><hr><center>cloudflare</center></body></html>";

/// Signals that the server is stopping, so that hanging calls end.
#[derive(Debug, Clone, Default)]
pub(super) struct Closing(pub CancellationToken);

impl Sandbox {
    /// Everything the sandbox answers. Faults that cut the connection need [`Sandbox::serve`]; without it they answer
    /// `500`.
    pub fn router(self: &Arc<Self>) -> Router {
        self.router_until(Closing::default())
    }

    /// Serves on `listener` until `shutdown` completes and the calls under way are answered.
    ///
    /// # Errors
    /// As `axum::serve`; it retries what can be retried.
    pub async fn serve(
        self: Arc<Self>,
        listener: tokio::net::TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let closing = Closing::default();
        let router = self.router_until(closing.clone());
        let service = router.into_make_service_with_connect_info::<Scissors>();
        let worker = tokio::spawn(self.clone().work(closing.0.clone()));
        let stop = async move {
            shutdown.await;
            closing.0.cancel();
        };
        let served = axum::serve(CuttableListener(listener), service).with_graceful_shutdown(stop).await;
        worker.abort();
        served
    }

    fn router_until(self: &Arc<Self>, closing: Closing) -> Router {
        routes::routes()
            .route_layer(from_fn_with_state(self.clone(), stage))
            .merge(control::routes())
            .merge(inbox::routes())
            .fallback(unknown_path)
            .layer(DefaultBodyLimit::max(BODY_LIMIT))
            .layer(from_fn_with_state(self.clone(), host::check))
            .layer(Extension(closing))
            .with_state(self.clone())
    }
}

async fn unknown_path(method: Method, request: Request) -> Response {
    let text = format!("the sandbox has no {method} {}", request.uri().path());
    (StatusCode::NOT_FOUND, Json(json!({"errors": [text]}))).into_response()
}

/// Applies faults to a call, and counts it.
async fn stage(State(sandbox): State<Arc<Sandbox>>, request: Request, next: Next) -> Response {
    let route =
        request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned()).unwrap_or_default();
    let (family, endpoint) = routes::endpoint(request.method(), &route);
    let scissors = request.extensions().get::<ConnectInfo<Scissors>>().map(|info| info.0.clone());
    let closing = request.extensions().get::<Closing>().cloned().unwrap_or_default();
    let strike = sandbox.faults.lock().strike(family, Instant::now());
    for kind in strike.kinds {
        *sandbox.stats.lock().faults.entry(kind).or_default() += 1;
    }
    if !strike.delay.is_zero() {
        tokio::time::sleep(strike.delay).await;
    }
    // Counted before the response is sent, so that clients with the response also see the count.
    let lost = || sandbox.stats.lock().count(endpoint, None);
    let answer = match strike.fault {
        None => observed(&sandbox, &route, request, next).await,
        Some(fault) => match fault.kind {
            Kind::Status | Kind::Html | Kind::RateLimit | Kind::Delay => instead(&fault),
            Kind::KeyRevoked => Refusal::access_denied().into_response(),
            Kind::AppDisabled => Refusal::app_disabled().into_response(),
            Kind::ReplyLost => {
                next.run(request).await;
                lost();
                closing.0.cancelled().await;
                return cut(scissors.as_ref());
            }
            Kind::Hang => {
                lost();
                closing.0.cancelled().await;
                return cut(scissors.as_ref());
            }
            Kind::ResetBefore => {
                lost();
                return cut(scissors.as_ref());
            }
            Kind::ResetAfter => {
                next.run(request).await;
                lost();
                return cut(scissors.as_ref());
            }
            Kind::Truncate => {
                let whole = next.run(request).await;
                lost();
                return truncated(whole).await;
            }
        },
    };
    sandbox.stats.lock().count(endpoint, Some(answer.status().as_u16()));
    answer
}

/// Lets the call through, and shows both sides of it to the observer, when there is one.
async fn observed(sandbox: &Sandbox, route: &str, request: Request, next: Next) -> Response {
    let Some(observer) = &sandbox.options.observer else { return next.run(request).await };
    let (head, body) = request.into_parts();
    let sent = axum::body::to_bytes(body, BODY_LIMIT).await.unwrap_or_default();
    let method = head.method.clone();
    let answer = next.run(Request::from_parts(head, Body::from(sent.clone()))).await;
    let (head, body) = answer.into_parts();
    let received = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    (observer.0)(&Exchange {
        method: method.as_str(),
        route,
        request: &sent,
        status: head.status.as_u16(),
        content_type: content_type.unwrap_or_default(),
        answer: &received,
    });
    Response::from_parts(head, Body::from(received))
}

/// The answer of a fault that answers by itself.
fn instead(fault: &Fault) -> Response {
    let wanted = fault.status.and_then(|status| StatusCode::from_u16(status).ok());
    let status = wanted.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    if fault.kind == Kind::RateLimit {
        return rate_limited(fault.retry_after.unwrap_or(1));
    }
    let mut answer = match (&fault.body, status) {
        _ if fault.kind == Kind::Html => Html(UNAVAILABLE_PAGE).into_response(),
        (Some(body), _) => Json(body).into_response(),
        (None, StatusCode::TOO_MANY_REQUESTS) => rate_limited(fault.retry_after.unwrap_or(1)),
        (None, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Refusal::access_denied().into_response(),
        (None, _) if status.is_server_error() => {
            Json(json!({"errors": ["Service temporarily unavailable"]})).into_response()
        }
        (None, _) => Json(json!({"errors": [status.canonical_reason().unwrap_or("Fault")]})).into_response(),
    };
    *answer.status_mut() = status;
    if let Some(seconds) = fault.retry_after {
        answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    answer
}

/// Resets the connection; the answer given here is never written.
fn cut(scissors: Option<&Scissors>) -> Response {
    if let Some(scissors) = scissors {
        scissors.cut();
    }
    (StatusCode::INTERNAL_SERVER_ERROR, "this connection was supposed to be reset").into_response()
}

/// Announces the whole answer and sends half of it.
async fn truncated(whole: Response) -> Response {
    let (mut parts, body) = whole.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    parts.headers.insert(header::CONTENT_LENGTH, bytes.len().into());
    let half = bytes.slice(..bytes.len() / 2);
    // The first half is sent; then the error closes the connection.
    let pieces = stream::unfold(Some(half), |half| async move {
        match half {
            Some(half) if !half.is_empty() => Some((Ok(half), Some(Bytes::new()))),
            Some(_) => {
                tokio::task::yield_now().await;
                Some((Err(io::Error::from(io::ErrorKind::UnexpectedEof)), None))
            }
            None => None,
        }
    });
    Response::from_parts(parts, Body::from_stream(pieces))
}
