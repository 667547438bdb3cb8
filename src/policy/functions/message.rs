//! Words to later, to other embots and to admins: timers, messages, notifications, the log.

use super::propose::draft;
use crate::model::{ActionKind, Level, Value};
use crate::policy::context::{Context, Outcome, complaint, span};
use crate::policy::limits::Stop;
use crate::policy::state::{stored_bytes, to_value};
use crate::policy::step::TimerChange;
use rhai::{Dynamic, Engine, NativeCallContext, Position};
use std::rc::Rc;
use std::sync::Arc;

pub(super) fn register(engine: &mut Engine, context: &Rc<Context>) {
    let here = context.clone();
    engine.register_fn("after", move |ms: i64, name: &str| set_timer(&here, ms, name, Dynamic::UNIT));
    let here = context.clone();
    engine.register_fn("after", move |ms: i64, name: &str, content: Dynamic| set_timer(&here, ms, name, content));
    let here = context.clone();
    engine.register_fn("cancel_timer", move |name: &str| -> Outcome<()> {
        here.now("cancel_timer")?;
        change_timer(&here, TimerChange::Cancel { name: word("timer", name)? })
    });
    let here = context.clone();
    engine.register_fn("send", move |channel: &str, message: Dynamic| -> Outcome<()> {
        here.now("send")?;
        let channel = word("channel", channel)?;
        let content = content(&here, &message)?;
        let mut sheet = here.sheet.borrow_mut();
        if sheet.messages.len() >= here.limits.messages {
            return here.stop(Stop::Messages, Position::NONE);
        }
        sheet.messages.push((channel, content));
        Ok(())
    });
    let here = context.clone();
    engine.register_fn("notify", move |call: NativeCallContext, text: &str| notify(&here, &call, Level::Info, text));
    let here = context.clone();
    engine.register_fn("notify", move |call: NativeCallContext, level: &str, text: &str| {
        let level = match level {
            "info" => Level::Info,
            "warning" => Level::Warning,
            "alarm" => Level::Alarm,
            _ => return complaint(format!("`{level}` is no level; there are \"info\", \"warning\" and \"alarm\"")),
        };
        notify(&here, &call, level, text)
    });
    let here = context.clone();
    engine.on_print(move |text| log(&here, text));
    let here = context.clone();
    engine.on_debug(move |text, _, at| match at.line() {
        Some(line) => log(&here, &format!("{line}: {text}")),
        None => log(&here, text),
    });
}

fn set_timer(context: &Context, ms: i64, name: &str, attached: Dynamic) -> Outcome<()> {
    let due = context.now("after")? + span(ms)?;
    let change = TimerChange::Set { name: word("timer", name)?, due, content: content(context, &attached)? };
    change_timer(context, change)
}

fn change_timer(context: &Context, change: TimerChange) -> Outcome<()> {
    let mut sheet = context.sheet.borrow_mut();
    if sheet.timers.len() >= context.limits.timers {
        return context.stop(Stop::Timers, Position::NONE);
    }
    sheet.timers.push(change);
    Ok(())
}

fn notify(context: &Context, call: &NativeCallContext, level: Level, text: &str) -> Outcome<()> {
    draft(context, call, ActionKind::Notify { level, text: Arc::from(text) }, text)
}

/// A name of a timer or channel: what it is called in journals, so it must be short and not empty.
fn word(what: &str, name: &str) -> Outcome<Arc<str>> {
    if name.trim().is_empty() || name.len() > 100 {
        return complaint(format!("the name of a {what} has 1 to 100 characters"));
    }
    Ok(Arc::from(name))
}

/// What is attached or sent, in the form that is stored.
fn content(context: &Context, content: &Dynamic) -> Outcome<Value> {
    let bytes = match stored_bytes(content) {
        Ok(bytes) => bytes,
        Err(bad) => {
            return complaint(format!(
                "what is attached or sent must be plain data, but `content{}` is {}",
                bad.path, bad.what
            ));
        }
    };
    context.charge(bytes as u64 / 32)?;
    if bytes > context.limits.state_bytes {
        return complaint(format!(
            "{bytes} bytes are more than the {} that can be attached or sent",
            context.limits.state_bytes
        ));
    }
    to_value(content).or_else(|bad| complaint(format!("`content{}` is {}", bad.path, bad.what)))
}

/// Keeps a printed line; beyond the limits lines are dropped, since they are for people and change nothing.
fn log(context: &Context, text: &str) {
    let mut sheet = context.sheet.borrow_mut();
    if sheet.logs.len() < context.limits.logs {
        let mut end = text.len().min(context.limits.log_bytes);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        sheet.logs.push(text[..end].to_owned());
    }
}
