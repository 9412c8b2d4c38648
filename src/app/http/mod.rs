//! The HTTP server: limits the number of connections and their timeouts, and answers health checks when all
//! connections are in use.

mod connection;
mod descriptors;
mod registry;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use self::connection::{ClientTimes, Phase, TimedBody, TimedStream, TrackedBody};
use self::registry::{Admission, Client, ConnectionLimits, Entry, Place, Registry};
use crate::access::KnownClient;
use crate::config::HttpSettings;
use crate::telemetry::{Sampled, names};

pub use self::descriptors::{DescriptorLimit, raise_descriptor_limit};

/// Maximum size of a request's head, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Maximum number of header fields.
const MAX_HEADERS: usize = 100;
/// Buffer size per connection, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;
/// How long to wait when there is no descriptor for a new connection.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Paths that are answered regardless of the load.
const HEALTH_PATHS: [&str; 2] = ["/healthz", "/readyz"];

/// Whether an address is a trusted proxy, which represents many clients.
pub type IsProxy = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Serves `router` on `listener` until `stop`, and then until all requests in progress are answered.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    (settings, is_proxy): (HttpSettings, IsProxy),
    stop: CancellationToken,
) {
    let server = Arc::new(Server::new(router, settings, is_proxy));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, address)) => {
                if let Some(place) = server.enter(address) {
                    let server = Arc::clone(&server);
                    connections.spawn(server.serve_connection(stream, address, place, stop.clone()));
                }
            }
            // A connection closed before it was accepted can be ignored; other errors persist.
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no connection could be accepted");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

fn is_of_the_client(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

struct Server {
    router: Router,
    registry: Arc<Registry>,
    settings: HttpSettings,
    is_proxy: IsProxy,
    times: ClientTimes,
    turned_away: TurnedAway,
}

impl Server {
    fn new(router: Router, settings: HttpSettings, is_proxy: IsProxy) -> Self {
        let limits = ConnectionLimits {
            total: descriptors::connections_within(settings.max_connections),
            per_address: settings.max_connections_per_address,
            anonymous_per_address: settings.max_anonymous_connections_per_address,
        };
        let times = ClientTimes {
            head: settings.head_timeout,
            idle: settings.idle_timeout,
            write: settings.write_timeout,
        };
        let registry = Registry::new(limits);
        Self { router, registry, settings, is_proxy, times, turned_away: TurnedAway::default() }
    }

    fn enter(&self, address: SocketAddr) -> Option<Place> {
        let ip = address.ip().to_canonical();
        match self.registry.enter(ip, (self.is_proxy)(ip)) {
            Entry::Admitted(place) => {
                if place.has_displaced {
                    self.turned_away.displace();
                }
                Some(place)
            }
            Entry::Refused => {
                self.turned_away.refuse();
                None
            }
        }
    }

    async fn serve_connection(
        self: Arc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        place: Place,
        stop: CancellationToken,
    ) {
        // Responses are small and written whole; waiting for more to send would only delay them.
        let _ = stream.set_nodelay(true);
        let client = Arc::clone(&place.client);
        let io = TokioIo::new(TimedStream::new(stream, self.times, Arc::clone(&client.phase)));
        let service = hyper::service::service_fn(|request: Request<Incoming>| {
            self.answer(request, address, Arc::clone(&client), place.admission)
        });
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_header_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .max_buf_size(BUFFER_BYTES)
            .keep_alive(place.admission == Admission::Full);
        let mut serving = std::pin::pin!(builder.serve_connection(io, service));
        let mut is_stopping = false;
        loop {
            tokio::select! {
                // Errors are not logged: the client sees them, too.
                _ = serving.as_mut() => return,
                () = client.close.cancelled() => return,
                () = stop.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    serving.as_mut().graceful_shutdown();
                }
            }
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        address: SocketAddr,
        client: Arc<Client>,
        admission: Admission,
    ) -> Result<Response<TrackedBody>, std::convert::Infallible> {
        client.phase.set(Phase::Busy);
        let response = if admission == Admission::HealthOnly && !HEALTH_PATHS.contains(&request.uri().path())
        {
            no_room()
        } else {
            let body_timeout = self.settings.body_timeout;
            let mut request = request.map(|body| Body::new(TimedBody::new(body, body_timeout)));
            request.extensions_mut().insert(ConnectInfo(address));
            let Ok(response) = self.router.clone().oneshot(request).await;
            response
        };
        if response.extensions().get::<KnownClient>().is_some() {
            client.is_known.store(true, Ordering::Relaxed);
        }
        Ok(response.map(|body| TrackedBody::new(body, Arc::clone(&client.phase))))
    }
}

/// The response to a connection beyond the limit.
fn no_room() -> Response<Body> {
    let mut response = Response::new(Body::from("too many connections; try again in a moment\n"));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// Counts and logs connections that were closed or rejected because of the limits.
#[derive(Default)]
struct TurnedAway {
    displaced: Sampled,
    refused: Sampled,
}

impl TurnedAway {
    fn displace(&self) {
        metrics::counter!(names::CONNECTIONS_TURNED_AWAY, "how" => "displaced").increment(1);
        if let Some(count) = self.displaced.count() {
            tracing::warn!(count, "too many connections: {count} idle or slow ones were closed (http.max_…)");
        }
    }

    fn refuse(&self) {
        metrics::counter!(names::CONNECTIONS_TURNED_AWAY, "how" => "refused").increment(1);
        if let Some(count) = self.refused.count() {
            tracing::warn!(count, "too many connections: {count} new ones were rejected (http.max_…)");
        }
    }
}
