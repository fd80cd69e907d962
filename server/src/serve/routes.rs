//! Which stage answers a request, once it is known who asks.
//!
//! Access is decided first, before anything about a route or a body is looked at, so that a refusal reveals nothing.
//! Then the server's own routes come first, then configured views, then what posts events, and everything else is a
//! question.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use analytics::live::{Held, Live};
use analytics::{Analytics, Readable};
use axum::body::Body;
use bytes::Bytes;
use event::StreamName;
use http::header::UPGRADE;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use ingest::http::{HttpOptions, PacedBody};
use ingest::{Ingest, Route, TraceContext};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;
use tower::ServiceExt;

use super::Phase;
use super::admin::Admin;
use super::cors::Cors;
use super::demo::Demo;
use super::needs;
use super::problem::problem;
use super::sockets::Accepted;
use super::stages::Stages;
use super::starting;
use super::tls::Tls;
use super::views::{self, Meant, Views};
use crate::access::{Access, Caller, Need, Refusal};
use crate::config::Config;

/// Every stage that answers requests in this process.
pub(super) struct Routes {
    admin: Admin,
    demo: Demo,
    ingest: Option<Ingest>,
    questions: Option<axum::Router>,
    /// What the configuration adds to the questions.
    views: Views,
    /// With the stream whose writers may use it.
    assign: Option<(axum::Router, StreamName)>,
    /// Those who watch; there when questions are.
    live: Option<Live>,
    /// Absent when everybody may do everything.
    access: Option<Access>,
    /// Absent when no page of another origin may do anything.
    cors: Option<Cors>,
}

impl Routes {
    /// The routes of the stages that are open.
    pub(super) fn new(
        stages: &mut Stages,
        config: &Config,
        metrics: PrometheusHandle,
        access: Option<Access>,
    ) -> Self {
        let secured = access.is_some();
        let analytics = stages.questions.take();
        let admin = Admin::new(
            &stages.catalog,
            &config.routes,
            metrics,
            stages.readiness(),
            secured,
        );
        let admin = match &stages.assign {
            Some(assign) => admin.with_people(&assign.own),
            None => admin,
        };
        Self {
            admin,
            demo: Demo::new(config.demo.as_ref()),
            access,
            cors: Cors::new(config),
            ingest: stages.ingest.clone(),
            questions: analytics.as_ref().map(Analytics::router),
            views: Views::new(&config.routes, analytics),
            assign: stages
                .assign
                .as_ref()
                .map(|assign| (assign.service.router(), assign.stream.clone())),
            live: stages.watching.as_ref().map(|watching| watching.live.clone()),
        }
    }

    /// Says that a shutdown has begun: not ready any more, nothing new is taken.
    pub(super) fn drain(&self) {
        self.admin.readiness.drain();
        if let Some(ingest) = &self.ingest {
            ingest.close();
        }
        if let Some(live) = &self.live {
            live.close();
        }
    }

    /// Those who watch.
    pub(super) fn live(&self) -> Option<&Live> {
        self.live.as_ref()
    }

    /// Answers one request, so that a page that may talk to its path can read the answer.
    pub(super) async fn answer<B>(self: Arc<Self>, request: Request<B>) -> Response<Body>
    where
        B: hyper::body::Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Some(cors) = &self.cors else {
            return self.dispatch(request).await;
        };
        if let Some(preflight) = cors.preflight(&request) {
            return preflight;
        }
        let visit = cors.visit(&request);
        let mut response = self.dispatch(request).await;
        if let Some(visit) = visit {
            visit.end(response.headers_mut());
        }
        response
    }

    /// Lets the stage answer whose request it is.
    async fn dispatch<B>(&self, mut request: Request<B>) -> Response<Body>
    where
        B: hyper::body::Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let path = request.uri().path();
        let own = Admin::has(path) || Demo::has(path);
        let assigning = self.assign.as_ref().filter(|_| !own && assign::http::has(path));
        let route = self.ingest.as_ref().filter(|_| !own && assigning.is_none());
        let route = route.and_then(|ingest| ingest.route(path));
        let found = self.views.at(path).filter(|_| assigning.is_none());
        let asks_too = found.is_some();
        let only_asks = asks_too && route.is_none();
        let meant = found.filter(|_| views::asks(request.method()));
        let people = assigning.map(|(_, stream)| stream);
        let caller = match self.admit(&request, route.as_ref(), meant.as_ref(), people) {
            Ok(caller) => caller,
            Err(refusal) => return refused(&refusal, &request),
        };
        let watches = !own && self.live.as_ref().is_some_and(|live| live.takes(&request));
        let asks = own || watches || meant.is_some() || assigning.is_some();
        let takes = !asks && takes(request.method(), path, route.is_some());
        if let Some(ingest) = self.ingest.as_ref().filter(|_| takes) {
            let mut response = ingest.handle(request).await.map(Body::new);
            if asks_too && response.status() == StatusCode::METHOD_NOT_ALLOWED {
                let allowed = HeaderValue::from_static("GET, HEAD, POST");
                response.headers_mut().insert(header::ALLOW, allowed);
            }
            return response;
        }
        let trace = TraceContext::from_headers(request.headers());
        let mut response = if Demo::has(path) {
            self.demo.answer(request.method(), path)
        } else if own {
            self.admin.answer(&request, &caller).await
        } else if let Some(meant) = meant {
            let readable = caller.readable().unwrap_or_else(Readable::all);
            let (method, query) = (request.method(), request.uri().query());
            let readiness = &self.admin.readiness;
            self.views
                .answer(meant, method, query, &readable, readiness)
                .await
        } else if only_asks {
            views::not_allowed()
        } else if let Some((router, _)) = assigning {
            let answered = router.clone().oneshot(request.map(Body::new)).await;
            answered.unwrap_or_else(|never| match never {})
        } else if takes {
            problem(StatusCode::NOT_FOUND, "this process has not the role `ingest`")
        } else {
            if let Some(readable) = caller.readable() {
                request.extensions_mut().insert(readable);
            }
            match self.live.as_ref().filter(|_| watches) {
                Some(live) => live.answer(request.map(Body::new)).await,
                None => self.question(request).await,
            }
        };
        trace.echo(response.headers_mut());
        response
    }

    /// On whose behalf the request is made, if it may be.
    fn admit<B>(
        &self,
        request: &Request<B>,
        route: Option<&Route>,
        meant: Option<&Meant<'_>>,
        assigning: Option<&StreamName>,
    ) -> Result<Caller, Refusal> {
        let Some(access) = &self.access else {
            return Ok(Caller::Everybody);
        };
        if let Some(meant) = meant {
            return access.admit(request.headers(), &needs::of_view(meant.view()));
        }
        let path = request.uri().path();
        let stream = needs::stream_of(path);
        let asks = request.method() == Method::GET || request.method() == Method::HEAD;
        let watched = self
            .live
            .as_ref()
            .filter(|_| asks)
            .and_then(|live| live.route(path));
        let need = match (watched, assigning) {
            (Some(stream), _) => Need::OwnView(std::slice::from_ref(stream)),
            (None, Some(stream)) => needs::of_assigning(path, stream.as_str()),
            (None, None) => needs::of(request.method(), path, route, stream.as_deref()),
        };
        access.admit(request.headers(), &need)
    }

    async fn question<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: hyper::body::Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match &self.questions {
            Some(router) => {
                let answered = router.clone().oneshot(request.map(Body::new)).await;
                answered.unwrap_or_else(|never| match never {})
            }
            None => problem(
                StatusCode::NOT_FOUND,
                "there is no such route here: this process has not the role `analytics`",
            ),
        }
    }
}

/// Whether a request is about taking events; `known` says that its path is a route of ingest. Only the path of a
/// stream's events answers questions as well; a stream's own routes only take.
fn takes(method: &Method, path: &str, known: bool) -> bool {
    let asks = method == Method::GET || method == Method::HEAD;
    if path.starts_with("/v1/streams/") {
        (known || path.ends_with("/events")) && !asks
    } else {
        known
    }
}

/// The answer to a request that may not be made. Its body was not looked at, so unless it is empty the connection
/// cannot go on.
fn refused<B: hyper::body::Body>(refusal: &Refusal, request: &Request<B>) -> Response<Body> {
    let problem = refusal.problem();
    let problem = if request.body().is_end_stream() {
        problem
    } else {
        problem.close()
    };
    let trace = TraceContext::from_headers(request.headers());
    problem.into_response(&trace, request.version()).map(Body::new)
}

/// What every connection of a server is served with.
pub(super) struct Front {
    /// Empty until everything is open.
    pub(super) routes: OnceLock<Arc<Routes>>,
    pub(super) options: HttpOptions,
    /// Absent when HTTP is spoken in plain.
    pub(super) tls: Option<Tls>,
}

/// Serves one connection until its client, a deadline or the shutdown ends it.
pub(super) async fn serve(front: Arc<Front>, accepted: Accepted, mut phase: watch::Receiver<Phase>) {
    let Accepted { stream, peer, place } = accepted;
    let mut draining = phase.clone();
    let drain = async move {
        // An error means that the server is gone, which ends the connection as well.
        let _ = draining.wait_for(|phase| *phase >= Phase::Draining).await;
    };
    let options = front.options;
    // A connection that becomes a WebSocket leaves this function, and takes its place along.
    let place: Arc<dyn Any + Send + Sync> = Arc::new(place);
    let held = Held(Arc::clone(&place));
    let answering = Arc::clone(&front);
    let service = move |mut request: Request<PacedBody>| {
        if request.headers().contains_key(UPGRADE) {
            request.extensions_mut().insert(held.clone());
        }
        let routes = answering.routes.get().map(Arc::clone);
        async move {
            match routes {
                Some(routes) => routes.answer(request).await,
                None => starting::respond(&request),
            }
        }
    };
    let connection = async {
        let Some(tls) = &front.tls else {
            return ingest::http::serve(stream, service, options, drain).await;
        };
        // On the heap, so that connections in plain have no place for it.
        let secured = async {
            tokio::pin!(drain);
            let stream = tokio::select! {
                stream = tls.accept(stream, options.head_timeout) => stream?,
                () = &mut drain => return Ok(()),
            };
            ingest::http::serve(stream, service, options, drain).await
        };
        Box::pin(secured).await
    };
    metrics::gauge!("tidemill_connections").increment(1.0);
    tokio::select! {
        ended = connection => {
            if let Err(error) = ended {
                tracing::debug!(%peer, %error, "connection ended");
            }
        }
        _ = phase.wait_for(|phase| *phase == Phase::Cut) => {
            tracing::debug!(%peer, "connection cut short by the shutdown");
        }
    }
    metrics::gauge!("tidemill_connections").decrement(1.0);
    drop(place);
}
