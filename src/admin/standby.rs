//! What a Houston that stands by answers: that it lives, and why it is not ready. All else is refused.
//!
//! Must not: open the store. Nobody but the process that acts knows what is in it.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::crowd::Crowd;
use super::{Socket, livez};
use crate::lease::Lease;
use crate::metrics::{self, Metrics, Seen};

#[derive(Clone)]
pub struct Standby {
    lease: Lease,
    metrics: Metrics,
}

impl Standby {
    /// `started_at`: since the Unix epoch, in seconds.
    pub fn new(lease: Lease, started_at: f64) -> Self {
        Self { lease, metrics: Metrics::new(started_at) }
    }

    /// Until `stop`.
    pub async fn serve_socket(self, socket: Socket, stop: CancellationToken) {
        let Socket { listener, file } = socket;
        let served = axum::serve(listener, self.router())
            .with_graceful_shutdown(async move { stop.cancelled().await })
            .await;
        if let Err(error) = served {
            tracing::error!("the admin socket ended: {error}");
        }
        drop(file);
    }

    /// Until `stop`.
    pub async fn serve_http(self, listener: TcpListener, stop: CancellationToken) {
        let served = axum::serve(Crowd::new(listener), self.router())
            .with_graceful_shutdown(async move { stop.cancelled().await })
            .await;
        if let Err(error) = served {
            tracing::error!("HTTP ended: {error}");
        }
    }

    fn router(self) -> Router {
        Router::new()
            .route("/livez", get(livez))
            .route("/healthz", get(livez))
            .route("/readyz", get(not_ready))
            .route("/metrics", get(exposed))
            .fallback(not_ready)
            .with_state(self)
    }
}

async fn not_ready(State(standby): State<Standby>) -> impl IntoResponse {
    (StatusCode::SERVICE_UNAVAILABLE, format!("standing by: {}\n", standby.lease.describe()))
}

async fn exposed(State(standby): State<Standby>) -> impl IntoResponse {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], standby.metrics.expose(&Seen::default()))
}
