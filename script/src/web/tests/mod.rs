//! The web classes tried from within: each file of cases is JavaScript that runs in a fresh context over a host in memory.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use rquickjs::context::EvalOptions;
use rquickjs::{CatchResultExt, Context, Ctx, Function, Object, Persistent, Result, Runtime, Value};

const HOST: &str = include_str!("host.js");
const HARNESS: &str = include_str!("harness.js");
/// Far more jobs and timers than any file of cases needs: a case that never ends fails instead.
const MOST_STEPS: usize = 2_000_000;

/// A table of the web classes over the host of the tests, installed.
pub(crate) fn installed<'js>(ctx: &Ctx<'js>, settings: &str) -> Result<(Object<'js>, Object<'js>)> {
    let make: Function<'js> = ctx.eval(HOST)?;
    let host: Object<'js> = make.call(())?;
    let table = super::load(ctx, host.clone())?;
    let settings: Value<'js> = ctx.json_parse(settings)?;
    table.get::<_, Function<'js>>("install")?.call::<_, ()>((ctx.globals(), settings))?;
    Ok((host, table))
}

fn named<'js, V: rquickjs::FromJs<'js>>(ctx: &Ctx<'js>, source: &str, name: &str) -> Result<V> {
    let mut options = EvalOptions::default();
    options.filename = Some(name.to_owned());
    ctx.eval_with_options(source, options)
}

/// Runs jobs, then the next timer, and again, until nothing is left.
fn drain<'js>(ctx: &Ctx<'js>, host: &Object<'js>) -> Result<()> {
    for _ in 0..MOST_STEPS {
        if ctx.execute_pending_job() {
            continue;
        }
        if !host.get::<_, Function<'js>>("tick")?.call::<_, bool>(())? {
            return Ok(());
        }
    }
    panic!("the cases do not end");
}

/// The rejections that nobody handles, by their promise.
type Unhandled = Rc<RefCell<HashMap<String, String>>>;

/// As an isolate does, so that promises within the web classes never show up in an app's log.
fn watch(runtime: &Runtime) -> Unhandled {
    let unhandled = Unhandled::default();
    let list = Rc::clone(&unhandled);
    runtime.set_host_promise_rejection_tracker(Some(Box::new(move |_, promise, reason, handled| {
        let promise = format!("{promise:?}");
        if handled {
            list.borrow_mut().remove(&promise);
        } else {
            let error = reason.as_exception().map(|e| format!("{e}\n{}", e.stack().unwrap_or_default()));
            list.borrow_mut().insert(promise, error.unwrap_or_else(|| format!("{reason:?}")));
        }
    })));
    unhandled
}

fn cases<'js>(ctx: &Ctx<'js>, name: &str, source: &str, settings: &str) -> Result<()> {
    let (host, table) = installed(ctx, settings)?;
    let harness: Function<'js> = named(ctx, HARNESS, "harness.js")?;
    let internals = Object::new(ctx.clone())?;
    internals.set("host", host.clone())?;
    internals.set("dispatch", table)?;
    let harness: Object<'js> = harness.call((ctx.globals(), internals))?;
    named::<Value<'js>>(ctx, source, name)?;
    harness.get::<_, Function<'js>>("run")?.call::<_, Value<'js>>(())?;
    drain(ctx, &host)?;
    let results: Object<'js> = harness.get("results")?;
    let failures: Vec<String> = results.get("failures")?;
    let current: Option<String> = results.get("current")?;
    assert!(failures.is_empty(), "{} of {name} failed:\n{}", failures.len(), failures.join("\n"));
    assert!(results.get::<_, Option<bool>>("done")?.is_some(), "{name} waits for ever in: {current:?}");
    assert!(results.get::<_, usize>("run")? > 0, "{name} has no case");
    Ok(())
}

/// What the reference does on a late compatibility date.
const PLAIN: &str = r#"{"date":"2026-08-01","flags":[]}"#;

fn run(name: &str, source: &str, settings: &str) {
    let runtime = Runtime::new().expect("a runtime");
    runtime.set_max_stack_size(1 << 20);
    let context = Context::full(&runtime).expect("a context");
    let unhandled = watch(&runtime);
    let done = context.with(|ctx| cases(&ctx, name, source, settings).catch(&ctx).map_err(|e| e.to_string()));
    runtime.set_host_promise_rejection_tracker(None);
    done.expect(name);
    assert!(unhandled.borrow().is_empty(), "{name}: nobody handles {:#?}", unhandled.borrow());
}

macro_rules! files {
    ($($test:ident $file:literal)*) => {
        $(#[test]
        fn $test() {
            run($file, include_str!($file), PLAIN);
        })*
    };
}

files! {
    basics "basics.js"
    console "console.js"
    clones "clones.js"
    encodings "encodings.js"
    subtle_secrets "subtle-secrets.js"
    subtle_pairs "subtle-pairs.js"
    subtle_errors "subtle-errors.js"
    digests "digests.js"
    urls "urls.js"
    headers "headers.js"
    blobs "blobs.js"
    forms "forms.js"
    readable "readable.js"
    bytes "bytes.js"
    writable "writable.js"
    pipes "pipes.js"
    responses "responses.js"
    requests "requests.js"
    hosted "hosted.js"
    fetches "fetches.js"
    sockets "sockets.js"
    events "events.js"
    hostile "hostile.js"
}

#[test]
#[should_panic(expected = "nobody handles")]
fn a_rejection_that_nobody_handles_is_seen() {
    run("unhandled", "test('one', () => { Promise.reject(new Error('mine')); });", PLAIN);
}

#[test]
#[should_panic(expected = "waits for ever")]
fn a_case_that_does_not_end_is_seen() {
    run("endless", "test('one', () => new Promise(() => {}));", PLAIN);
}

/// Before the dates on which the reference changed.
#[test]
fn compatibility_dates() {
    let source = r#"
test('before the two dates', async () => {
  const pair = new WebSocketPair();
  const seen = [];
  pair[0].accept();
  pair[1].accept();
  pair[1].addEventListener('close', (e) => seen.push(e.code, pair[1].readyState));
  equal(pair[0].binaryType, 'arraybuffer');
  pair[0].close(1000);
  await settle();
  equal([seen, pair[0].readyState], [[1000, 2], 2]);
  pair[1].close(1000);
  await settle();
  equal([pair[0].readyState, pair[1].readyState], [3, 3]);
});
"#;
    run("dates", source, r#"{"date":"2026-01-01","flags":[]}"#);
}

#[test]
fn flags() {
    let source = r#"
test('nodejs_compat', async () => {
  equal([process.env.A, typeof process.nextTick, global === globalThis, Cloudflare.compatibilityFlags.nodejs_compat], ['1', 'function', true, true]);
  const order = [];
  setImmediate((x) => order.push(x), 'immediate');
  process.nextTick((x) => order.push(x), 'tick');
  clearImmediate(setImmediate(() => order.push('never')));
  await scheduler.wait(1);
  equal(order, ['tick', 'immediate']);
});
"#;
    run("flags", source, r#"{"flags":["nodejs_compat"],"env":{"A":1}}"#);
}

/// What a runtime holds when nothing waits in it, in bytes.
fn heap(runtime: &Runtime) -> i64 {
    runtime.run_gc();
    runtime.memory_usage().memory_used_size
}

#[test]
fn events_leave_nothing_behind() {
    /// As much as lists and tables of the engine may still grow by, in bytes: far less than one byte an event and object.
    const SLACK: i64 = 64 * 1024;
    let runtime = Runtime::new().expect("a runtime");
    let context = Context::full(&runtime).expect("a context");
    let host = context.with(|ctx| {
        cases(&ctx, "leaks", include_str!("leaks.js"), PLAIN)
            .catch(&ctx)
            .map_err(|e| e.to_string())
            .expect("cases");
        Persistent::save(&ctx, ctx.globals().get::<_, Object<'_>>("host").expect("the host"))
    });
    let before = heap(&runtime);
    context.with(|ctx| {
        let host = host.clone().restore(&ctx).expect("the host");
        ctx.eval::<Value<'_>, _>("round(400, 1600)").expect("a promise");
        drain(&ctx, &host).expect("an end");
    });
    let after = heap(&runtime);
    drop(host);
    assert!(after - before < SLACK, "from {before} to {after} bytes");
}
