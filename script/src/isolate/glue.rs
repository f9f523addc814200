//! Loading: the glue, the web classes, the app's modules, in this order; and what the entry module exports.

use std::rc::Rc;

use rquickjs::context::EvalOptions;
use rquickjs::convert::List;
use rquickjs::object::Property;
use rquickjs::promise::PromiseState;
use rquickjs::{Context, Ctx, Exception, Function, Object, Persistent, Result, Runtime};

use super::modules;
use super::state::State;
use super::{Web, convert, drain, natives, run_jobs};
use crate::message::{Load, LoadFailed, Loaded, Variable};

/// Runs everything up to the point at which events can come.
pub(crate) fn load(
    context: &Context,
    runtime: &Runtime,
    state: &Rc<State>,
    mut load: Load,
    web: Web,
) -> std::result::Result<Loaded, Box<LoadFailed>> {
    let (resolutions, mut sources) = modules::of(&mut load);
    let entry = sources.take(&load.entry);
    runtime.set_loader(resolutions, sources);
    context.with(|ctx| run(&ctx, state, load, entry, web).map_err(|_| failed(&ctx, state)))
}

fn run(ctx: &Ctx<'_>, state: &Rc<State>, load: Load, entry: Option<String>, web: Web) -> Result<Loaded> {
    let mut options = EvalOptions::default();
    options.filename = Some("berth:glue".to_owned());
    let make: Function<'_> = ctx.eval_with_options(include_str!("glue.js"), options)?;
    let glue: Object<'_> = make.call((natives::for_glue(ctx, state)?,))?;
    *state.glue.borrow_mut() = Some(Persistent::save(ctx, glue.clone()));
    let set_event = glue.get::<_, Function<'_>>("setEvent")?;
    *state.set_event.borrow_mut() = Some(Persistent::save(ctx, set_event));

    state.classes.borrow_mut().clone_from(&load.objects);
    let table = web(ctx, natives::for_web(ctx, state)?)?;
    let variables = variables(ctx, &table, &load)?;
    glue.get::<_, Function<'_>>("prepare")?.call::<_, ()>((table.clone(), variables.clone()))?;
    let settings = convert::bare(ctx)?;
    settings.set("date", load.compatibility_date.as_str())?;
    settings.set("flags", load.flags.clone())?;
    settings.set("env", texts(ctx, &table, &load)?)?;
    table.get::<_, Function<'_>>("install")?.call::<_, ()>((ctx.globals(), settings))?;
    glue.get::<_, Function<'_>>("lock")?.call::<_, ()>(())?;

    let namespace = evaluate(ctx, state, &load.entry, entry)?;
    let start: Function<'_> = glue.get("start")?;
    let List((handlers, classes)) = start.call::<_, List<(Vec<String>, Vec<String>)>>((namespace,))?;
    Ok(Loaded { handlers, classes })
}

/// The variables of `env`, in an object that has nothing else.
fn variables<'js>(ctx: &Ctx<'js>, table: &Object<'js>, load: &Load) -> Result<Object<'js>> {
    chosen(ctx, table, load, |_| true)
}

/// Those that are no more than values.
fn texts<'js>(ctx: &Ctx<'js>, table: &Object<'js>, load: &Load) -> Result<Object<'js>> {
    chosen(ctx, table, load, |variable| matches!(variable, Variable::Text(_) | Variable::Json(_)))
}

fn chosen<'js>(
    ctx: &Ctx<'js>,
    table: &Object<'js>,
    load: &Load,
    is_in: impl Fn(&Variable) -> bool,
) -> Result<Object<'js>> {
    let variables = convert::bare(ctx)?;
    for (name, variable) in load.env.iter().filter(|(_, variable)| is_in(variable)) {
        let property = Property::from(convert::variable(ctx, table, variable)?).enumerable();
        variables.prop(name.as_str(), property)?;
    }
    Ok(variables)
}

/// Runs the entry module and all that it imports; its exports.
fn evaluate<'js>(ctx: &Ctx<'js>, state: &State, name: &str, source: Option<String>) -> Result<Object<'js>> {
    let source =
        source.ok_or_else(|| Exception::throw_message(ctx, &format!("No such module \"{name}\".")))?;
    let (module, done) = modules::declare(ctx, name, source)?.eval()?;
    run_jobs(ctx, state);
    if done.state() == PromiseState::Rejected {
        // It is told as what failed.
        drop(state.rejections.take());
    }
    drain(ctx, state);
    match done.state() {
        PromiseState::Pending => {
            let text = "Top-level await in module is still pending: nothing can settle what it waits for.";
            Err(Exception::throw_message(ctx, text))
        }
        PromiseState::Resolved | PromiseState::Rejected => {
            done.result::<rquickjs::Value<'js>>().transpose()?;
            module.namespace()
        }
    }
}

/// What was thrown, and where, as far as its stack tells.
fn failed(ctx: &Ctx<'_>, state: &State) -> Box<LoadFailed> {
    let thrown = ctx.catch();
    let error = convert::error(ctx, state, &thrown);
    let place = error.stack.lines().find_map(|line| place(line.trim_start().strip_prefix("at ")?));
    let (module, line, column) = place.map_or((None, None, None), |(m, l, c)| (Some(m), Some(l), Some(c)));
    Box::new(LoadFailed { error, module, line, column })
}

/// Module, line and column of a frame: `name (module:1:2)` or `module:1:2`.
fn place(frame: &str) -> Option<(String, u32, u32)> {
    let inner =
        frame.strip_suffix(')').and_then(|frame| frame.rsplit_once(" (")).map_or(frame, |(_, inner)| inner);
    let (rest, column) = inner.rsplit_once(':')?;
    let (module, line) = rest.rsplit_once(':')?;
    Some((module.to_owned(), line.parse().ok()?, column.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn a_frame_says_its_place() {
        assert_eq!(place("f (src/a b.js:3:14)"), Some(("src/a b.js".to_owned(), 3, 14)));
        assert_eq!(place("src/index.js:1:2"), Some(("src/index.js".to_owned(), 1, 2)));
        assert_eq!(place("f (<anonymous>)"), None);
    }
}
