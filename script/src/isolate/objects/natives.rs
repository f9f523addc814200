//! What the web classes call of objects: each a small function over what is kept here. None is reachable by the app's code.

use std::rc::Rc;

use rquickjs::{Array, Ctx, Exception, Function, Object, Persistent, Result, Value};
use rusqlite::types::Value as Sql;

use super::kept::{Kept, NotKept, Range};
use super::{Instance, Live, Pending, Run, Section, Work, ids};
use crate::isolate::abandon::refused;
use crate::isolate::convert::{self, bare, bytes, id, number, text};
use crate::isolate::ops::{add_op, admit, call_glue, name_bodies};
use crate::isolate::state::{Scope, Settle, State};
use crate::message::{Effect, Object as ObjectRef, ObjectClass, ObjectId, RPC_BYTES};
use crate::raw;

/// What code fails with whose object has been reset.
const GONE: &str = "Durable Object has been reset.";

/// Sets functions of an object.
macro_rules! natives {
    ($ctx:ident, $state:ident, $object:ident: $($name:literal => $function:expr,)*) => {$({
        let state = Rc::clone($state);
        let make = $function;
        $object.set($name, Function::new($ctx.clone(), make(state))?.with_name($name)?)?;
    })*};
}

/// The internal object `host.objects`.
pub(crate) fn for_web<'js>(ctx: &Ctx<'js>, state: &Rc<State>) -> Result<Object<'js>> {
    let table = bare(ctx)?;
    names(ctx, state, &table)?;
    sections(ctx, state, &table)?;
    keys(ctx, state, &table)?;
    table.set("container", super::container::for_web(ctx, state)?)?;
    Ok(table)
}

fn names<'js>(ctx: &Ctx<'js>, state: &Rc<State>, table: &Object<'js>) -> Result<()> {
    natives! { ctx, state, table:
        "classes" => |state: Rc<State>| move || -> Vec<String> {
            state.classes.borrow().iter().map(|class| class.name.clone()).collect()
        },
        "named" => |state: Rc<State>| move |ctx: Ctx<'js>, class: String, name: rquickjs::String<'js>| -> Result<String> {
            let name = text(&ctx, &state, &name)?;
            with_class(&ctx, &state, &class, |class| ids::of_name(class, &name).to_string())
        },
        "unique" => |state: Rc<State>| move |ctx: Ctx<'js>, class: String| -> Result<String> {
            state.event(&ctx)?;
            let mut own = [0; ids::OWN_BYTES];
            state.host.random(&mut own);
            with_class(&ctx, &state, &class, |class| ids::of_bytes(class, own).to_string())
        },
        "belongs" => |state: Rc<State>| move |ctx: Ctx<'js>, class: String, digits: String| -> Result<bool> {
            let Some(id) = ObjectId::parse(&digits) else { return Ok(false) };
            with_class(&ctx, &state, &class, |class| ids::belongs(class, id))
        },
        "call" => |state: Rc<State>| move |ctx: Ctx<'js>, object: Object<'js>, method: rquickjs::String<'js>, args: Array<'js>| {
            call(&ctx, &state, &object, &method, &args)
        },
        "abort" => |state: Rc<State>| move |ctx: Ctx<'js>, instance: f64, why: rquickjs::String<'js>| -> Result<()> {
            let why = State::reset_error(text(&ctx, &state, &why)?);
            state.objects.borrow_mut().doom(instance_of(instance), why);
            Ok(())
        },
    }
    Ok(())
}

fn sections<'js>(ctx: &Ctx<'js>, state: &Rc<State>, table: &Object<'js>) -> Result<()> {
    natives! { ctx, state, table:
        "section" => |state: Rc<State>| move |ctx: Ctx<'js>, instance: f64, may_fail: bool, run: Function<'js>| {
            section(&ctx, &state, instance_of(instance), may_fail, run)
        },
        "sectionEnded" => |state: Rc<State>| move |ctx: Ctx<'js>, instance: f64, section: u32, ok: bool, value: Value<'js>| {
            section_ended(&ctx, &state, instance_of(instance), Section::of_number(section), ok, value)
        },
        "begin" => |state: Rc<State>| move |ctx: Ctx<'js>, instance: f64, long: bool| {
            with_live(&ctx, &state, instance, |live| live.begin(long))
        },
        "release" => |state: Rc<State>| move |ctx: Ctx<'js>, instance: f64| -> Result<()> {
            with_live(&ctx, &state, instance, |live| live.end(true))?;
            state.objects.borrow_mut().released(instance_of(instance));
            Ok(())
        },
        "rollBack" => |state: Rc<State>| move |ctx: Ctx<'js>, instance: f64| -> Result<()> {
            with_live(&ctx, &state, instance, |live| live.end(false))?;
            written(&state, instance, false);
            Ok(())
        },
        "sql" => |state: Rc<State>| move |ctx: Ctx<'js>, instance: f64, query: rquickjs::String<'js>, values: Array<'js>| {
            query_of(&ctx, &state, instance, &query, &values)
        },
        "databaseSize" => |state: Rc<State>| move |ctx: Ctx<'js>, instance: f64| -> Result<usize> {
            let host = Rc::clone(&state.host);
            with_live(&ctx, &state, instance, |live| Ok(live.database(&host)?.size()))
        },
        "sync" => |state: Rc<State>| move |ctx: Ctx<'js>, instance: f64| sync(&ctx, &state, instance_of(instance)),
    }
    Ok(())
}

fn keys<'js>(ctx: &Ctx<'js>, state: &Rc<State>, table: &Object<'js>) -> Result<()> {
    natives! { ctx, state, table:
        "get" => |state: Rc<State>| move |ctx: Ctx<'js>, instance: f64, key: rquickjs::String<'js>| -> Result<Value<'js>> {
            let key = text(&ctx, &state, &key)?;
            let value = with_kept(&ctx, &state, instance, |kept| {
                Kept::check_key(&key).map(|()| kept.get(&key).map(<[u8]>::to_vec))
            })?;
            value.map_or(Ok(Value::new_undefined(ctx.clone())), |value| bytes(&ctx, &value))
        },
        "put" => |state: Rc<State>| move |ctx: Ctx<'js>, instance: f64, key: rquickjs::String<'js>, value: Object<'js>, unconfirmed: bool| -> Result<()> {
            let key = text(&ctx, &state, &key)?;
            let value = value.as_typed_array::<u8>().map(raw::copy).unwrap_or_default();
            let beside = with_live(&ctx, &state, instance, |live| Ok(live.database_bytes()))?;
            with_kept(&ctx, &state, instance, |kept| kept.put(key, value, beside))?;
            written(&state, instance, unconfirmed);
            Ok(())
        },
        "delete" => |state: Rc<State>| move |ctx: Ctx<'js>, instance: f64, key: rquickjs::String<'js>, unconfirmed: bool| -> Result<bool> {
            let key = text(&ctx, &state, &key)?;
            let was = with_kept(&ctx, &state, instance, |kept| Kept::check_key(&key).map(|()| kept.delete(&key)))?;
            if was {
                written(&state, instance, unconfirmed);
            }
            Ok(was)
        },
        "clear" => |state: Rc<State>| move |ctx: Ctx<'js>, instance: f64, alarm: bool| -> Result<()> {
            let host = Rc::clone(&state.host);
            with_live(&ctx, &state, instance, |live| live.clear_database(&host))?;
            with_kept(&ctx, &state, instance, |kept| {
                kept.clear();
                if alarm {
                    kept.set_alarm(None);
                }
                Ok(())
            })?;
            written(&state, instance, false);
            Ok(())
        },
        "list" => |state: Rc<State>| move |ctx: Ctx<'js>, instance: f64, range: Object<'js>| list(&ctx, &state, instance, &range),
        "inTransaction" => |state: Rc<State>| move |ctx: Ctx<'js>, instance: f64| {
            with_kept(&ctx, &state, instance, |kept| Ok(kept.in_transaction()))
        },
        "alarm" => |state: Rc<State>| move |ctx: Ctx<'js>, instance: f64| -> Result<Option<f64>> {
            with_kept(&ctx, &state, instance, |kept| Ok(kept.alarm().map(number)))
        },
        "setAlarm" => |state: Rc<State>| move |ctx: Ctx<'js>, instance: f64, due_ms: Option<f64>, unconfirmed: bool| -> Result<()> {
            with_kept(&ctx, &state, instance, |kept| { kept.set_alarm(due_ms.map(id)); Ok(()) })?;
            written(&state, instance, unconfirmed);
            Ok(())
        },
    }
    Ok(())
}

pub(super) fn instance_of(number: f64) -> Instance {
    Instance(id(number))
}

pub(super) fn gone(ctx: &Ctx<'_>) -> rquickjs::Error {
    Exception::throw_message(ctx, GONE)
}

fn with_class<R>(ctx: &Ctx<'_>, state: &State, name: &str, run: impl FnOnce(&ObjectClass) -> R) -> Result<R> {
    let classes = state.classes.borrow();
    match classes.iter().find(|class| class.name == name) {
        Some(class) => Ok(run(class)),
        None => {
            Err(Exception::throw_message(ctx, &format!("There is no namespace of the class \"{name}\".")))
        }
    }
}

/// Runs something over what an object keeps. No JavaScript runs meanwhile.
fn with_kept<R>(
    ctx: &Ctx<'_>,
    state: &State,
    instance: f64,
    run: impl FnOnce(&mut Kept) -> std::result::Result<R, NotKept>,
) -> Result<R> {
    let mut objects = state.objects.borrow_mut();
    let Some(live) = objects.sound(instance_of(instance)) else {
        drop(objects);
        return Err(gone(ctx));
    };
    let done = run(&mut live.kept);
    drop(objects);
    done.map_err(|why| match why {
        NotKept::Key | NotKept::Value => Exception::throw_range(ctx, &why.to_string()),
        NotKept::Full | NotKept::Deep => Exception::throw_message(ctx, &why.to_string()),
    })
}

/// The same over the whole object.
fn with_live<R>(
    ctx: &Ctx<'_>,
    state: &State,
    instance: f64,
    run: impl FnOnce(&mut Live) -> std::result::Result<R, String>,
) -> Result<R> {
    let mut objects = state.objects.borrow_mut();
    let Some(live) = objects.sound(instance_of(instance)) else {
        drop(objects);
        return Err(gone(ctx));
    };
    let done = run(live);
    drop(objects);
    done.map_err(|why| Exception::throw_message(ctx, &why))
}

/// A value for a query: null, a number, a string or bytes; the web classes give no other.
fn sql_value<'js>(ctx: &Ctx<'js>, state: &State, value: &Value<'js>) -> Result<Sql> {
    if let Some(number) = value.as_number() {
        return Ok(Sql::Real(number));
    }
    if let Some(string) = value.as_string() {
        return Ok(Sql::Text(text(ctx, state, string)?));
    }
    let view = value.as_object().and_then(|object| object.as_typed_array::<u8>());
    Ok(view.map_or(Sql::Null, |view| Sql::Blob(raw::copy(view))))
}

/// A value of a row; integers lose what a double has no room for, as in the reference.
#[expect(clippy::cast_precision_loss, reason = "as the reference has it")]
fn js_value<'js>(ctx: &Ctx<'js>, value: Sql) -> Result<Value<'js>> {
    match value {
        Sql::Null => Ok(Value::new_null(ctx.clone())),
        Sql::Integer(number) => Ok(Value::new_number(ctx.clone(), number as f64)),
        Sql::Real(number) => Ok(Value::new_number(ctx.clone(), number)),
        Sql::Text(text) => Ok(rquickjs::String::from_str(ctx.clone(), &text)?.into_value()),
        Sql::Blob(blob) => Ok(raw::bytes(ctx, &blob)?.arraybuffer()?.into_value()),
    }
}

/// Runs a query: `{columns, rows, written}`.
fn query_of<'js>(
    ctx: &Ctx<'js>,
    state: &State,
    instance: f64,
    query: &rquickjs::String<'js>,
    values: &Array<'js>,
) -> Result<Object<'js>> {
    let query = text(ctx, state, query)?;
    let values = values.iter::<Value<'js>>().map(|value| sql_value(ctx, state, &value?));
    let values = values.collect::<Result<Vec<Sql>>>()?;
    let host = Rc::clone(&state.host);
    let ran =
        with_live(ctx, state, instance, |live| live.database(&host)?.run(&state.guard, &query, &values));
    // What fails in its midst may have written too.
    if ran.as_ref().map_or(true, |rows| rows.writes) {
        written(state, instance, false);
    }
    let found = ran?;
    let (result, rows) = (bare(ctx)?, Array::new(ctx.clone())?);
    for (at, row) in found.rows.into_iter().enumerate() {
        let list = Array::new(ctx.clone())?;
        for (column, value) in row.into_iter().enumerate() {
            list.set(column, js_value(ctx, value)?)?;
        }
        rows.set(at, list)?;
    }
    result.set("columns", found.columns)?;
    result.set("rows", rows)?;
    result.set("written", number(found.written))?;
    Ok(result)
}

fn written(state: &State, instance: f64, unconfirmed: bool) {
    let mut objects = state.objects.borrow_mut();
    objects.touch(instance_of(instance), unconfirmed);
    objects.weigh(instance_of(instance));
    drop(objects);
    state.weigh();
}

/// A list of keys and values in turn.
fn list<'js>(ctx: &Ctx<'js>, state: &State, instance: f64, given: &Object<'js>) -> Result<Array<'js>> {
    let part = |name: &str| -> Result<Option<String>> {
        given.get::<_, Option<rquickjs::String<'js>>>(name)?.map(|one| text(ctx, state, &one)).transpose()
    };
    let limit = given.get::<_, Option<f64>>("limit")?;
    let range = Range {
        start: part("start")?,
        after: given.get::<_, Option<bool>>("after")?.unwrap_or(false),
        end: part("end")?,
        prefix: part("prefix")?.unwrap_or_default(),
        reverse: given.get::<_, Option<bool>>("reverse")?.unwrap_or(false),
        limit: limit.map_or(usize::MAX, |limit| usize::try_from(id(limit)).unwrap_or(usize::MAX)),
    };
    let found = with_kept(ctx, state, instance, |kept| {
        Ok(kept.list(&range).map(|(key, value)| (key.to_owned(), value.to_vec())).collect::<Vec<_>>())
    })?;
    let array = Array::new(ctx.clone())?;
    for (at, (key, value)) in found.into_iter().enumerate() {
        array.set(2 * at, key)?;
        array.set(2 * at + 1, bytes(ctx, &value)?)?;
    }
    Ok(array)
}

fn sync<'js>(ctx: &Ctx<'js>, state: &State, instance: Instance) -> Result<Value<'js>> {
    let (promise, settle) = Settle::new(ctx, state)?;
    let mut objects = state.objects.borrow_mut();
    let Some(live) = objects.sound(instance) else {
        drop(objects);
        return Err(gone(ctx));
    };
    let newest = live.out.newest(live.unsent && !live.kept.in_long_transaction());
    if newest <= live.out.durable() {
        drop(objects);
        settle.resolve(ctx, rquickjs::Undefined)?;
    } else {
        live.syncs.push_back((newest, settle));
    }
    Ok(promise)
}

/// Begins a critical section: `run` is called in it as soon as it is its turn. A promise of what that comes to.
fn section<'js>(
    ctx: &Ctx<'js>,
    state: &State,
    instance: Instance,
    may_fail: bool,
    run: Function<'js>,
) -> Result<Value<'js>> {
    let scope = state.scope(ctx)?;
    let within =
        scope.place.filter(|(own, _)| *own == instance).map_or(Section::ROOT, |(_, section)| section);
    let (promise, settle) = Settle::new(ctx, state)?;
    let run = Persistent::save(ctx, run);
    let mut objects = state.objects.borrow_mut();
    let Some(live) = objects.sound(instance) else {
        drop(objects);
        return Err(gone(ctx));
    };
    let event = live.life;
    let begun = live.gate.begin(within, |section| {
        let run: Run = Box::new(move |ctx, state| {
            let run = run.restore(ctx)?;
            state.time_section(instance, section);
            call_glue(ctx, state, "section", (number(instance.0), section.number(), run)).map(drop)
        });
        Work { event, run }
    });
    let Some(section) = begun else {
        drop(objects);
        let text = format!("blockConcurrencyWhile() calls are nested more than {} deep.", super::gate::DEPTH);
        return Err(Exception::throw_message(ctx, &text));
    };
    live.sections.insert(section, Pending { settle, may_fail });
    objects.list(instance);
    Ok(promise)
}

/// A section has come to its end; who began it goes on, or the object is reset.
fn section_ended<'js>(
    ctx: &Ctx<'js>,
    state: &State,
    instance: Instance,
    section: Section,
    ok: bool,
    value: Value<'js>,
) -> Result<()> {
    let mut objects = state.objects.borrow_mut();
    let Some(live) = objects.sound(instance) else { return Ok(()) };
    let Some(Pending { settle, may_fail }) = live.sections.remove(&section) else { return Ok(()) };
    if !ok && !may_fail {
        drop(objects);
        let error = convert::error(ctx, state, &value);
        state.objects.borrow_mut().doom(instance, error);
        return Ok(());
    }
    live.gate.end(section);
    let event = live.life;
    let around = settle.scope.and_then(|scope| scope.place).map_or(Section::ROOT, |(_, section)| section);
    let value = Persistent::save(ctx, value);
    let run: Run = Box::new(move |ctx, _| {
        let settled = if ok { settle.resolve } else { settle.reject };
        settled.restore(ctx)?.call((value.restore(ctx)?,))
    });
    objects.enqueue_first(instance, around, event, run);
    Ok(())
}

/// Calls a method of an object; a promise of what it returns, as `argument` has it.
fn call<'js>(
    ctx: &Ctx<'js>,
    state: &State,
    object: &Object<'js>,
    method: &rquickjs::String<'js>,
    given: &Array<'js>,
) -> Result<Value<'js>> {
    let scope: Scope = state.scope(ctx)?;
    let object = object_of(ctx, state, object)?;
    let method = text(ctx, state, method)?;
    admit(ctx, state, scope.event)?;
    let args = convert::arguments_of(ctx, state, scope.event, given)?;
    let weight = method.len() + args.iter().map(crate::message::Argument::weight).sum::<usize>();
    let added = if weight > RPC_BYTES {
        let text = format!("The arguments of a call of an object have more than {} KiB.", RPC_BYTES >> 10);
        Err(Exception::throw_range(ctx, &text))
    } else {
        add_op(ctx, state, scope, weight)
    };
    let (promise, op) = added.or_else(|why| refused(ctx, why, || convert::abandon_all(ctx, state, &args)))?;
    let bodies = args.iter().filter_map(convert::body_of_argument).collect::<Vec<_>>();
    state.push(Effect::Rpc { op, event: scope.event, object: Box::new(object), method, args });
    name_bodies(ctx, state, &bodies)?;
    Ok(promise)
}

/// The object that `{class, id, name}` is.
pub(crate) fn object_of<'js>(ctx: &Ctx<'js>, state: &State, object: &Object<'js>) -> Result<ObjectRef> {
    let name = object.get::<_, Option<rquickjs::String<'js>>>("name")?;
    let parsed = ObjectId::parse(&object.get::<_, String>("id")?);
    Ok(ObjectRef {
        class: object.get("class")?,
        id: parsed.ok_or_else(|| Exception::throw_type(ctx, "Invalid Durable Object ID."))?,
        name: name.map(|name| text(ctx, state, &name)).transpose()?,
    })
}
