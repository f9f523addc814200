//! The container of one object, as its code sees it: whether it runs, what it is ordered, who waits for its end. Where it runs, and
//! how, is the edge's.
//!
//! ```text
//! (Whole{running}) ──▶ runs ◀──(start, or told so)── ended
//!                        └──(told)──────────────────▶ ended
//! ```

use std::rc::Rc;

use rquickjs::{Array, Ctx, Exception, Function, Object, Result, Value};

use super::natives::{gone, instance_of};
use super::{Instance, Live};
use crate::isolate::convert::{bare, id, number, text};
use crate::isolate::ops::admit;
use crate::isolate::state::{Scope, Settle, State};
use crate::isolate::{Isolate, limits};
use crate::message::container::{Change, Ended, NOT_RUNNING, Order, START_BYTES, Start};
use crate::message::{Destination, Effect, ObjectId};

/// Who may wait at once for the end of one object's container. Each costs some hundred bytes; programs have a few.
const WAITING: usize = 1000;

/// What is done to another object's container fails with this.
const NOT_OWN: &str = "Cannot perform I/O on behalf of a different Durable Object.";

/// How it stands with an object's container.
pub(super) struct Container {
    running: bool,
    /// How many times it has begun to run, as far as is known here.
    run: u64,
    /// Whether this run is to be killed.
    destroyed: bool,
    /// How the last run ended, as long as there is no next.
    ended: Option<Ended>,
    /// Who waits for the end.
    monitors: Vec<Settle>,
    /// Who waits for it not to run.
    destroyers: Vec<Settle>,
}

impl Container {
    pub(super) fn new(running: bool) -> Self {
        Self {
            running,
            run: u64::from(running),
            destroyed: false,
            ended: None,
            monitors: Vec::new(),
            destroyers: Vec::new(),
        }
    }

    /// Whether anybody waits for its end.
    pub(super) fn is_awaited(&self) -> bool {
        !self.monitors.is_empty() || !self.destroyers.is_empty()
    }

    fn begin(&mut self) {
        self.running = true;
        self.run += 1;
        self.destroyed = false;
        self.ended = None;
    }

    /// It has ended; who waited for that.
    fn end(&mut self, ended: Ended) -> (Vec<Settle>, Vec<Settle>) {
        self.running = false;
        self.ended = Some(ended);
        (std::mem::take(&mut self.monitors), std::mem::take(&mut self.destroyers))
    }

    fn is_full(&self) -> bool {
        self.monitors.len() + self.destroyers.len() >= WAITING
    }
}

impl State {
    /// Whether objects of a class have containers.
    pub(super) fn has_container(&self, class: &str) -> bool {
        self.classes.borrow().iter().any(|one| one.name == class && one.container)
    }
}

impl Isolate {
    /// Something has become of an object's container. That it runs or not is seen at once; who waits for its end goes on by the gate.
    pub(in crate::isolate) fn container_changed(&mut self, object: ObjectId, change: Change) {
        let mut objects = self.state.objects.borrow_mut();
        let instance = objects.here(object);
        let live = instance.and_then(|instance| objects.sound(instance));
        let Some(container) = live.and_then(|live| live.container.as_mut()) else { return };
        let ended = match change {
            Change::Running if container.running => return,
            Change::Running => return container.begin(),
            Change::Ended(_) if !container.running => return,
            Change::Ended(ended) => ended,
        };
        let (monitors, destroyers) = container.end(ended.clone());
        drop(objects);
        for settle in monitors {
            let ended = ended.clone();
            self.go_on(settle.scope, move |ctx, _| settle.resolve(ctx, end_of(ctx, &ended)?));
        }
        for settle in destroyers {
            self.go_on(settle.scope, move |ctx, _| settle.resolve(ctx, rquickjs::Undefined));
        }
    }
}

/// Sets functions of an object.
macro_rules! natives {
    ($ctx:ident, $state:ident, $object:ident: $($name:literal => $function:expr,)*) => {$({
        let state = Rc::clone($state);
        let make = $function;
        $object.set($name, Function::new($ctx.clone(), make(state))?.with_name($name)?)?;
    })*};
}

/// The internal object `host.objects.container`.
pub(super) fn for_web<'js>(ctx: &Ctx<'js>, state: &Rc<State>) -> Result<Object<'js>> {
    let table = bare(ctx)?;
    natives! { ctx, state, table:
        "contained" => |state: Rc<State>| move |class: String| state.has_container(&class),
        "running" => |state: Rc<State>| move |instance: f64| -> bool {
            look(&state, instance_of(instance), |container| container.running).unwrap_or(false)
        },
        "run" => |state: Rc<State>| move |instance: f64| -> f64 {
            look(&state, instance_of(instance), |container| number(container.run)).unwrap_or(0.0)
        },
        "start" => |state: Rc<State>| move |ctx: Ctx<'js>, instance: f64, options: Object<'js>| {
            start(&ctx, &state, instance_of(instance), &options)
        },
        "signal" => |state: Rc<State>| move |ctx: Ctx<'js>, instance: f64, signal: u8| {
            order(&ctx, &state, instance_of(instance), Order::Signal(signal))
        },
        "destroy" => |state: Rc<State>| move |ctx: Ctx<'js>, instance: f64| {
            destroy(&ctx, &state, instance_of(instance))
        },
        "keepFor" => |state: Rc<State>| move |ctx: Ctx<'js>, instance: f64, ms: f64| {
            order(&ctx, &state, instance_of(instance), Order::KeepFor(id(ms).max(1)))
        },
        "monitor" => |state: Rc<State>| move |ctx: Ctx<'js>, instance: f64| {
            monitor(&ctx, &state, instance_of(instance))
        },
    }
    Ok(table)
}

/// Something of the container of an object that lives.
fn look<R>(state: &State, instance: Instance, run: impl FnOnce(&mut Container) -> R) -> Option<R> {
    state.objects.borrow_mut().sound(instance)?.container.as_mut().map(run)
}

/// The same for the object's own code.
fn own<R>(
    ctx: &Ctx<'_>,
    state: &State,
    instance: Instance,
    run: impl FnOnce(&mut Container) -> R,
) -> Result<R> {
    check_own(ctx, state.scope(ctx)?, instance)?;
    look(state, instance, run).ok_or_else(|| gone(ctx))
}

fn check_own(ctx: &Ctx<'_>, scope: Scope, instance: Instance) -> Result<()> {
    if scope.instance() == Some(instance) { Ok(()) } else { Err(Exception::throw_message(ctx, NOT_OWN)) }
}

/// Sends an order, through the output gate.
fn order(ctx: &Ctx<'_>, state: &State, instance: Instance, order: Order) -> Result<()> {
    let scope = state.scope(ctx)?;
    check_own(ctx, scope, instance)?;
    admit(ctx, state, scope.event)?;
    let object = state.objects.borrow_mut().sound(instance).map(|live: &mut Live| live.object.id);
    let object = object.ok_or_else(|| gone(ctx))?;
    state.push(Effect::Container(object, order));
    Ok(())
}

fn start<'js>(ctx: &Ctx<'js>, state: &State, instance: Instance, given: &Object<'js>) -> Result<()> {
    let start = Start {
        env: pairs(ctx, state, given, "env")?,
        entrypoint: words(ctx, state, given)?,
        enable_internet: given.get("enableInternet")?,
        labels: pairs(ctx, state, given, "labels")?,
    };
    let weight = start.weight();
    if weight > START_BYTES {
        let text = format!("What start() is given has more than {} KiB.", START_BYTES >> 10);
        return Err(Exception::throw_range(ctx, &text));
    }
    state.charge(ctx, weight)?;
    order(ctx, state, instance, Order::Start(Box::new(start)))?;
    own(ctx, state, instance, Container::begin)
}

/// Names and values in turn.
fn pairs<'js>(ctx: &Ctx<'js>, state: &State, given: &Object<'js>, of: &str) -> Result<Vec<(String, String)>> {
    let list = strings(ctx, state, &given.get::<_, Array<'js>>(of)?)?;
    let mut list = list.into_iter();
    Ok(std::iter::from_fn(|| list.next().zip(list.next())).collect())
}

fn words<'js>(ctx: &Ctx<'js>, state: &State, given: &Object<'js>) -> Result<Option<Vec<String>>> {
    let list = given.get::<_, Option<Array<'js>>>("entrypoint")?;
    list.map(|list| strings(ctx, state, &list)).transpose()
}

/// The strings of a list; not more than could be sent.
fn strings<'js>(ctx: &Ctx<'js>, state: &State, list: &Array<'js>) -> Result<Vec<String>> {
    let all = list.iter::<rquickjs::String<'js>>().take(START_BYTES);
    all.map(|one| text(ctx, state, &one?)).collect()
}

/// Has it killed, once a run; a promise of it not running any more.
fn destroy<'js>(ctx: &Ctx<'js>, state: &State, instance: Instance) -> Result<Value<'js>> {
    let (promise, settle) = Settle::new(ctx, state)?;
    let running = own(ctx, state, instance, |container| container.running)?;
    if !running {
        settle.resolve(ctx, rquickjs::Undefined)?;
        return Ok(promise);
    }
    check_room(ctx, state, instance)?;
    let first = own(ctx, state, instance, |container| !container.destroyed)?;
    if first {
        order(ctx, state, instance, Order::Destroy)?;
    }
    own(ctx, state, instance, |container| {
        container.destroyed = true;
        container.destroyers.push(settle);
    })?;
    Ok(promise)
}

fn check_room(ctx: &Ctx<'_>, state: &State, instance: Instance) -> Result<()> {
    if own(ctx, state, instance, |container| container.is_full())? {
        let text = format!("More than {WAITING} calls wait for the end of this container.");
        return Err(Exception::throw_message(ctx, &text));
    }
    Ok(())
}

/// A promise of the end, as `end_of` has it: of the run that is, or of the last.
fn monitor<'js>(ctx: &Ctx<'js>, state: &State, instance: Instance) -> Result<Value<'js>> {
    let (promise, settle) = Settle::new(ctx, state)?;
    let ended = own(ctx, state, instance, |container| container.ended.clone())?;
    if let Some(ended) = ended {
        settle.resolve(ctx, end_of(ctx, &ended)?)?;
        return Ok(promise);
    }
    if !own(ctx, state, instance, |container| container.running)? {
        let text = "monitor() cannot be called on a container that is not running.";
        return Err(Exception::throw_message(ctx, text));
    }
    check_room(ctx, state, instance)?;
    own(ctx, state, instance, |container| container.monitors.push(settle))?;
    Ok(promise)
}

/// `{failure, code}`: the text that waiting fails with, and the code, each if there is one.
fn end_of<'js>(ctx: &Ctx<'js>, ended: &Ended) -> Result<Object<'js>> {
    let object = bare(ctx)?;
    object.set("failure", ended.failure().map(|text| limits::cut(text, limits::ERROR_BYTES)))?;
    object.set("code", ended.code())?;
    Ok(object)
}

/// A port of an object's container, for its own code while it runs.
pub(crate) fn port_of(
    ctx: &Ctx<'_>,
    state: &State,
    scope: Scope,
    instance: f64,
    port: u16,
) -> Result<Destination> {
    let instance = instance_of(instance);
    check_own(ctx, scope, instance)?;
    if !own(ctx, state, instance, |container| container.running)? {
        return Err(Exception::throw_message(ctx, NOT_RUNNING));
    }
    let object = state.objects.borrow_mut().sound(instance).map(|live| live.object.id);
    Ok(Destination::Port { object: object.ok_or_else(|| gone(ctx))?, port, upgrade: false })
}
