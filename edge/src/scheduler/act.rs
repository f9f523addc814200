//! Carries out due schedules: turns an action into a request, and runs it on the shard of its object.

use std::sync::Arc;
use std::time::Duration;

use berth_common::spec::{Action, ClassSpec, HookKind, RequestAction, fill};
use berth_engine::Event;
use berth_store::{Delivery, Due, Schedule, What};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::Value;

use super::call::InternalCall;
use crate::apps::Apps;
use crate::http::headers::{ATTEMPT, CALLBACK, SCHEDULED_MS};
use crate::programs::{Alarm, Called, Programs};
use crate::proxy::Proxy;
use crate::proxy::error::{Fault, ProxyError};
use crate::shard::{ShardStopped, Shards};

/// Longest time for one action, the start of the instance included: an app that needs longer may continue after its
/// response.
const TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// The host of Berth's own requests: no client can name it.
const OWN_HOST: &str = "berth.internal";
/// What actions are carried out with.
pub(super) struct Actions {
    pub(super) apps: Arc<Apps>,
    pub(super) shards: Shards<Proxy>,
    pub(super) programs: Arc<Programs>,
}

/// Why an action was not completed.
#[derive(Debug)]
pub(super) enum ActError {
    /// It was tried and failed.
    Failed(String),
    /// It could not be tried: no node, or no capacity.
    NotNow(String),
}

impl From<String> for ActError {
    fn from(error: String) -> Self {
        Self::Failed(error)
    }
}

impl From<ProxyError> for ActError {
    fn from(error: ProxyError) -> Self {
        let text = error.to_string();
        match error.fault() {
            // Its code comes back with the next deployment, its secrets when they can be read: an alarm waits for that.
            _ if error.lacks_code() => Self::NotNow(text),
            Fault::Cluster => Self::NotNow(text),
            Fault::Client | Fault::App => Self::Failed(text),
        }
    }
}

/// The result of an action.
pub(super) enum Done {
    /// It is complete.
    Complete,
    /// This is still to be written.
    Tell(Box<Delivery>),
    /// An object's alarm has begun, and may go on for long.
    Begun(Called),
}

impl Actions {
    /// Carries the action out, or returns why that was not possible.
    pub(super) async fn act(&self, schedule: &Schedule) -> Result<Done, ActError> {
        let key = &schedule.key;
        if let What::Program(cron) = &schedule.what {
            return self.call_program(schedule, cron.clone()).await.map(|()| Done::Complete);
        }
        if let What::Alarm { name } = &schedule.what {
            return self.begin_alarm(schedule, name.clone()).await.map(Done::Begun);
        }
        let class = self.apps.class(&key.app, &key.class);
        let class = class.ok_or_else(|| format!("the app `{}` has no class `{}` now", key.app, key.class))?;
        match action_of(schedule, &class)? {
            Action::Hook => Ok(Done::Tell(Box::new(event(schedule, &class)?))),
            Action::Start { env } => {
                let class = with_env(class, &env, schedule)?;
                self.call(schedule, class, None, None).await.map(|_| Done::Complete)
            }
            Action::Request(action) => {
                let request = request(schedule, &action)?;
                match self.call(schedule, class, action.port, Some(request)).await? {
                    Some(status) if status.as_u16() >= 400 => {
                        Err(ActError::Failed(format!("the container answered {status}")))
                    }
                    _ => Ok(Done::Complete),
                }
            }
        }
    }

    async fn call(
        &self,
        schedule: &Schedule,
        mut class: ClassSpec,
        port: Option<u16>,
        request: Option<Request<Full<Bytes>>>,
    ) -> Result<Option<StatusCode>, ActError> {
        // Declaring a schedule permits the start, even in a class that is started manually.
        class.manual_start = false;
        let key = schedule.key.clone();
        let shard = self.shards.of(key.id());
        let call = InternalCall { key, class: Arc::new(class), port, request };
        in_time(self.shards.run(shard, |proxy| async move { call.carry_out(&proxy).await })).await
    }

    /// Has an object's alarm called, on the thread that has the object.
    async fn begin_alarm(&self, schedule: &Schedule, name: Option<String>) -> Result<Called, ActError> {
        let (key, scheduled_ms) = (schedule.key.clone(), schedule.scheduled_ms);
        let alarm = Alarm { key, name, scheduled_ms, retry: schedule.attempts };
        let shard = self.programs.lane_of(&alarm);
        let call = move |proxy: Arc<Proxy>| async move { proxy.alarm(&alarm).await };
        in_time(self.shards.run(shard, call)).await
    }

    /// Has the app's program called, on the shard that its cron's digest says.
    async fn call_program(&self, schedule: &Schedule, cron: String) -> Result<(), ActError> {
        let (key, time_ms) = (schedule.key.clone(), schedule.scheduled_ms);
        let shard = self.shards.of(key.id());
        let call = move |proxy: Arc<Proxy>| async move { proxy.scheduled(&key.app, &cron, time_ms).await };
        in_time(self.shards.run(shard, call)).await
    }
}

/// Waits for what runs on a shard, and not for ever.
async fn in_time<T>(
    called: impl Future<Output = Result<Result<T, ProxyError>, ShardStopped>>,
) -> Result<T, ActError> {
    match tokio::time::timeout(TIMEOUT, called).await {
        Ok(Ok(result)) => Ok(result?),
        Ok(Err(stopped)) => Err(ProxyError::from(stopped).into()),
        Err(_) => Err(ActError::Failed(format!("no answer within {} min", TIMEOUT.as_secs() / 60))),
    }
}

fn action_of(schedule: &Schedule, class: &ClassSpec) -> Result<Action, String> {
    match &schedule.what {
        What::Cron(action) => Ok(action.clone()),
        What::Callback(name) => {
            let action = class.callbacks.get(name).cloned();
            action.ok_or_else(|| format!("the class `{}` has no callback `{name}` now", schedule.key.class))
        }
        What::Program(_) | What::Alarm { .. } => Err("it is the program that is called".to_owned()),
    }
}

fn callback(schedule: &Schedule) -> Option<&str> {
    match &schedule.what {
        What::Callback(name) => Some(name.as_str()),
        What::Cron(_) | What::Program(_) | What::Alarm { .. } => None,
    }
}

fn with_env(
    mut class: ClassSpec,
    env: &std::collections::BTreeMap<String, String>,
    schedule: &Schedule,
) -> Result<ClassSpec, String> {
    let own = &mut class.recipe.env;
    own.insert("BERTH_SCHEDULED_MS".to_owned(), schedule.scheduled_ms.to_string());
    own.extend(callback(schedule).map(|name| ("BERTH_CALLBACK".to_owned(), name.to_owned())));
    if !schedule.payload.is_null() {
        own.insert("BERTH_PAYLOAD".to_owned(), schedule.payload.to_string());
    }
    own.extend(env.iter().map(|(name, value)| (name.clone(), fill(value, schedule.scheduled_ms))));
    // Settings of this start override those of the class, secrets included.
    class.secrets.retain(|variable, _| !own.contains_key(variable.as_str()));
    let bytes: usize = own.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > berth_common::spec::MAX_ENV_BYTES {
        return Err(format!("with the payload the environment has {bytes} bytes, which is too much"));
    }
    Ok(class)
}

fn request(schedule: &Schedule, action: &RequestAction) -> Result<Request<Full<Bytes>>, String> {
    let body = match &action.body {
        Some(body) => fill(body, schedule.scheduled_ms),
        None if schedule.payload.is_null() => String::new(),
        None => schedule.payload.to_string(),
    };
    let mut request = Request::builder()
        .method(action.method.as_str())
        .uri(fill(&action.path, schedule.scheduled_ms))
        .header(HOST, OWN_HOST)
        .header(SCHEDULED_MS, schedule.scheduled_ms)
        .header(ATTEMPT, schedule.attempts + 1);
    if let Some(name) = callback(schedule) {
        request = request.header(CALLBACK, name);
    }
    if !body.is_empty() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    request.body(Full::new(Bytes::from(body))).map_err(|error| format!("the request cannot be made: {error}"))
}

fn event(schedule: &Schedule, class: &ClassSpec) -> Result<Delivery, String> {
    let hooks = class.hooks.as_ref();
    let hooks = hooks.ok_or_else(|| format!("the class `{}` has no hooks now", schedule.key.class))?;
    let event = Event {
        kind: HookKind::Callback,
        key: schedule.key.clone(),
        instance: None,
        generation: Default::default(),
        time_ms: berth_common::clock::wall_ms(),
        outcome: None,
        url: hooks.url.clone(),
        secret: hooks.secret.clone(),
    };
    let due = Due {
        callback: match &schedule.what {
            What::Callback(name) => Some(name.clone()),
            What::Cron(_) | What::Program(_) | What::Alarm { .. } => None,
        },
        payload: Value::clone(&schedule.payload),
        scheduled_ms: schedule.scheduled_ms,
    };
    Ok(Delivery { callback: Some(due), ..Delivery::from(event) })
}

#[cfg(test)]
mod tests {
    use berth_store::fixtures::{class, schedule};
    use serde_json::json;

    use super::*;

    fn to(path: &str, body: Option<&str>) -> RequestAction {
        let (method, body) = ("POST".to_owned(), body.map(str::to_owned));
        RequestAction { method, path: path.to_owned(), body, port: None }
    }

    #[test]
    fn a_request_has_headers_that_say_what_it_is_for() {
        let due = Schedule { payload: json!({ "a": 1 }), ..schedule("o", 1, 7_000) };
        let request = request(&due, &to("/run?at={scheduled_ms}", None)).unwrap();
        assert_eq!((request.method().as_str(), request.uri().to_string().as_str()), ("POST", "/run?at=7000"));
        assert_eq!(request.headers()[CALLBACK], "clean");
        assert_eq!(request.headers()[ATTEMPT], "1");
        assert!(super::request(&due, &to("not a path", None)).is_err());
    }

    #[test]
    fn a_start_has_its_environment_from_callback_payload_and_class() {
        let due = Schedule { payload: json!("p"), ..schedule("o", 1, 7_000) };
        let env = [("AT".to_owned(), "{scheduled_time}".to_owned())].into();
        let own = with_env(class(), &env, &due).unwrap().recipe.env;
        assert_eq!((own["AT"].as_str(), own["BERTH_CALLBACK"].as_str()), ("1970-01-01T00:00:07Z", "clean"));
        assert_eq!((own["BERTH_PAYLOAD"].as_str(), own["BERTH_SCHEDULED_MS"].as_str()), ("\"p\"", "7000"));
    }

    #[test]
    fn what_has_no_code_now_waits_for_it_and_what_fails_has_failed() {
        use crate::programs::{Failure, ProgramError};
        use crate::script::Ended;
        let of = |error| {
            let app = "a".parse().unwrap();
            ActError::from(ProxyError::Program { app, error: Box::new(error) })
        };
        let no_class = ProgramError::NoClass("A".parse().unwrap());
        for error in [ProgramError::Gone, no_class] {
            assert!(matches!(of(error), ActError::NotNow(_)));
        }
        let failed = ProgramError::Failed(Failure::Ended(Ended::Cpu));
        assert!(matches!(of(failed), ActError::Failed(_)));
    }

    #[test]
    fn what_the_class_no_longer_declares_is_reported() {
        let error = action_of(&schedule("o", 1, 0), &class()).unwrap_err();
        assert!(error.contains("no callback `clean`"), "{error}");
        assert!(event(&schedule("o", 1, 0), &class()).is_err());
    }
}
