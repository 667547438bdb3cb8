//! Rhai's standard functions, made to pay for their work.
//!
//! To the engine a native function is one operation, be it `2.abs()` or a search through a thousand texts. So every standard
//! function that takes a list, map, text or bytes is registered a second time, in a module that is searched first, as one
//! that charges the meter for the size of its arguments and then calls the original in an inner engine that holds nothing
//! else. Which functions these are is read from the package itself: a function that a newer Rhai adds is covered as well.
//!
//! Not wrapped: functions of constant cost, and those that take a function, whose callbacks are counted as operations.
//! Of the latter, those that swallow their callbacks' errors are written anew. Refused are the functions that sleep,
//! read their own source or end the script, and those that take a function by its name, which made
//! `names.index_of("web")` a call of a function `web`.

use crate::policy::context::{Context, Outcome, complaint};
use crate::policy::surface;
use rhai::packages::{Package, StandardPackage};
use rhai::plugin::PluginFunc;
use rhai::{
    Array, Blob, Dynamic, Engine, EvalAltResult, FnPtr, FuncRegistration, ImmutableString, Map, Module, NativeCallContext,
    Position, RhaiFunc,
};
use std::any::TypeId;
use std::rc::Rc;

/// Bytes of text that cost as much as one element of a list.
const BYTES_PER_UNIT: u64 = 32;

/// Functions whose cost does not depend on the size of their first argument, or not by more than a copy that takes less time
/// than the call.
const CHEAP: &[&str] = &[
    "is_empty",
    "get$is_empty",
    "push",
    "pop",
    "shift",
    "insert",
    "remove",
    "truncate",
    "chop",
    "clear",
    "set",
    "tag",
    "get$tag",
    "set$tag",
    "set_tag",
    "take",
    "range",
    "bytes",
    "get$bytes",
];

/// Functions of lists that also have a deprecated form that takes a function by its name.
const BY_NAME: &[&str] =
    &["all", "dedup", "drain", "filter", "map", "reduce", "reduce_rev", "retain", "some", "sort", "index_of"];

/// A standard function that pays before it works.
struct Bounded {
    name: String,
    inner: Rc<Engine>,
    context: Rc<Context>,
    by_reference: bool,
    dear: Dear,
}

/// What a function does beyond looking once at each element.
#[derive(Clone, Copy, PartialEq)]
enum Dear {
    No,
    /// Compares elements with each other.
    Sorts,
    /// Makes a list element of each character or so.
    TakesApart,
    /// Makes a text that may be much longer than its arguments.
    Replaces,
    /// Makes something as long as its second argument says.
    Fills,
}

impl Bounded {
    fn cost(&self, args: &[&mut Dynamic]) -> u64 {
        let size: u64 = args.iter().map(|arg| weight(arg, 0)).sum();
        match self.dear {
            Dear::No => size,
            Dear::Sorts => size.saturating_mul(4),
            Dear::TakesApart => size.saturating_mul(BYTES_PER_UNIT / 4),
            Dear::Replaces => size.saturating_mul(4),
            Dear::Fills => {
                let wanted = args.iter().find_map(|arg| arg.as_int().ok()).unwrap_or(0);
                let unit = if args[0].is_string() { BYTES_PER_UNIT } else { 1 };
                size + u64::try_from(wanted).unwrap_or(0) / unit
            }
        }
    }
}

impl PluginFunc for Bounded {
    fn call(&self, call: Option<NativeCallContext>, args: &mut [&mut Dynamic]) -> Outcome<Dynamic> {
        if let [only] = args
            && let Ok(number) = only.as_int()
        {
            // Texts made of numbers are the most frequent call of all.
            return Ok(number.to_string().into());
        }
        let Some(call) = call else { return complaint(format!("`{}` was called out of context", self.name)) };
        self.context.charge_at(self.cost(args), call.call_position())?;
        if self.dear == Dear::Replaces {
            check_replacement(args, self.context.limits.string_bytes)?;
        }
        if self.dear == Dear::TakesApart {
            check_pieces(&self.name, args, self.context.limits.array)?;
        }
        // A state of its own: functions that compare elements copy it for each of them, and the script's may be large.
        let state = self.inner.new_global_runtime_state();
        let inside = NativeCallContext::new_with_all_fields(&self.inner, &self.name, None, &state, call.call_position());
        inside.call_native_fn_raw(&self.name, self.by_reference, args)
    }

    fn is_method_call(&self) -> bool {
        self.by_reference
    }

    fn has_context(&self) -> bool {
        true
    }
}

/// About how much there is to look at, in units. Lists and maps are bounded in all their levels together, so this is too.
fn weight(value: &Dynamic, depth: usize) -> u64 {
    if depth > 64 {
        return 1;
    }
    if let Some(text) = value.read_lock::<ImmutableString>() {
        1 + text.len() as u64 / BYTES_PER_UNIT
    } else if let Some(items) = value.read_lock::<Array>() {
        items.iter().map(|item| weight(item, depth + 1)).sum::<u64>() + 1
    } else if let Some(map) = value.read_lock::<Map>() {
        map.values().map(|item| 1 + weight(item, depth + 1)).sum::<u64>() + 1
    } else if let Some(bytes) = value.read_lock::<Blob>() {
        1 + bytes.len() as u64 / BYTES_PER_UNIT
    } else {
        1
    }
}

/// `text.replace(find, with)` makes its result before its size is checked: with 64 KiB of `x`, each replaced by 64 KiB, that
/// is 4 GiB. So the size is computed first.
fn check_replacement(args: &[&mut Dynamic], limit: usize) -> Outcome<()> {
    let text = |at| text(args, at);
    let (Some(whole), Some(find), Some(with)) = (text(0), text(1), text(2)) else { return Ok(()) };
    let times = whole.matches(find.as_str()).count();
    if whole.len().saturating_add(times.saturating_mul(with.len())).saturating_sub(times * find.len()) > limit {
        return Err(EvalAltResult::ErrorDataTooLarge("Length of string".into(), Position::NONE).into());
    }
    Ok(())
}

/// The pieces of a text, too, are made before the list of them is found too long.
fn check_pieces(name: &str, args: &[&mut Dynamic], limit: usize) -> Outcome<()> {
    let Some(whole) = text(args, 0) else { return Ok(()) };
    let pieces = match (name, args.len(), text(args, 1)) {
        ("split" | "split_rev", 1, _) => whole.split_whitespace().count(),
        ("split" | "split_rev", 2, Some(separator)) => whole.matches(separator.as_str()).count() + 1,
        ("to_chars", ..) => whole.chars().count(),
        _ => 0,
    };
    if pieces > limit {
        return Err(EvalAltResult::ErrorDataTooLarge("Size of array/BLOB".into(), Position::NONE).into());
    }
    Ok(())
}

/// An argument that is a text or a character.
fn text(args: &[&mut Dynamic], at: usize) -> Option<String> {
    let arg = args.get(at)?;
    arg.as_char().map(String::from).ok().or_else(|| arg.read_lock::<ImmutableString>().map(|text| text.to_string()))
}

/// Puts the standard package into the engine, bounded. `inner` is to be a raw engine with the same size limits.
pub(in crate::policy) fn register(engine: &mut Engine, mut inner: Engine, context: &Rc<Context>) {
    let package = StandardPackage::new();
    package.register_into_engine(engine);
    package.register_into_engine(&mut inner);
    super::register_views(&mut inner, context);
    let inner = Rc::new(inner);

    let mut front = Module::new();
    for standard in standard_functions(&inner) {
        if let Some((function, types)) = standard.bounded(&inner, context) {
            FuncRegistration::new(&standard.name).set_into_module_raw(&mut front, types, function);
        }
    }
    write_anew(&mut front, context);
    refuse(&mut front);
    engine.register_global_module(front.into());
}

struct Standard {
    name: String,
    types: Vec<TypeId>,
    by_reference: bool,
}

fn standard_functions(engine: &Engine) -> Vec<Standard> {
    engine.collect_fn_metadata(
        None,
        |function| {
            let first = function.metadata.params_info.first();
            Some(Standard {
                name: function.metadata.name.to_string(),
                types: function.metadata.param_types.to_vec(),
                by_reference: first.is_some_and(|first| first.contains("&mut ")),
            })
        },
        true,
    )
}

impl Standard {
    /// Its bounded form, where it needs one.
    fn bounded(&self, inner: &Rc<Engine>, context: &Rc<Context>) -> Option<(RhaiFunc, Vec<TypeId>)> {
        let [text, list, map] = [TypeId::of::<ImmutableString>(), TypeId::of::<Array>(), TypeId::of::<Map>()];
        let sized = [text, list, map, TypeId::of::<Blob>(), TypeId::of::<Dynamic>()];
        let takes_function = self.types.contains(&TypeId::of::<FnPtr>());
        let first = self.types.first()?;
        let looked_up = (*first == map && matches!(&*self.name, "contains" | "get" | "remove" | "set"))
            || (*first == list && matches!(&*self.name, "get" | "len" | "get$len"))
            || (*first == map && self.name == "len");
        if takes_function || looked_up || CHEAP.contains(&&*self.name) || !self.types.iter().any(|t| sized.contains(t)) {
            return None;
        }
        let name = match &*self.name {
            // The engine prints what these return; the inner one must only make the text.
            "print" => "to_string",
            "debug" => "to_debug",
            name => name,
        };
        let dear = match name {
            "sort" | "sort_desc" | "order" | "order_desc" => Dear::Sorts,
            "split" | "split_rev" | "to_chars" | "chars" | "get$chars" | "to_array" => Dear::TakesApart,
            "replace" => Dear::Replaces,
            "pad" | "blob" => Dear::Fills,
            _ => Dear::No,
        };
        let function = Bounded {
            name: name.to_owned(),
            inner: inner.clone(),
            context: context.clone(),
            by_reference: self.by_reference,
            dear,
        };
        Some((RhaiFunc::from(function), self.types.clone()))
    }
}

/// The functions that would go on after an error of their callback, or mean something else than they say.
fn write_anew(front: &mut Module, context: &Rc<Context>) {
    for name in ["sort", "sort_by"] {
        let here = context.clone();
        FuncRegistration::new(name).set_into_module(front, move |call: NativeCallContext, list: &mut Array, by: FnPtr| {
            *list = sorted(&here, &call, std::mem::take(list), &by)?;
            Ok::<_, Box<EvalAltResult>>(())
        });
    }
    for name in ["order", "order_by"] {
        let here = context.clone();
        FuncRegistration::new(name)
            .set_into_module(front, move |call: NativeCallContext, list: Array, by: FnPtr| sorted(&here, &call, list, &by));
    }
    let here = context.clone();
    FuncRegistration::new("dedup").set_into_module(front, move |call: NativeCallContext, list: &mut Array, by: FnPtr| {
        here.charge(list.len() as u64)?;
        let mut kept: Array = Vec::with_capacity(list.len());
        for item in std::mem::take(list) {
            let same = match kept.last() {
                Some(last) => by.call_raw(&call, None, [last.clone(), item.clone()])?.as_bool().unwrap_or(false),
                None => false,
            };
            if !same {
                kept.push(item);
            }
        }
        *list = kept;
        Ok::<_, Box<EvalAltResult>>(())
    });
    let here = context.clone();
    FuncRegistration::new("index_of")
        .set_into_module(front, move |list: &mut Array, text: ImmutableString| index_of(&here, list, &text, 0));
    let here = context.clone();
    FuncRegistration::new("index_of")
        .set_into_module(front, move |list: &mut Array, text: ImmutableString, start: i64| index_of(&here, list, &text, start));
}

fn index_of(context: &Context, list: &Array, text: &str, start: i64) -> Outcome<i64> {
    context.charge(list.len() as u64)?;
    let from_end = list.len().saturating_sub(usize::try_from(start.unsigned_abs()).unwrap_or(usize::MAX));
    let start = usize::try_from(start).unwrap_or(from_end);
    let is_it = |item: &Dynamic| item.read_lock::<ImmutableString>().is_some_and(|item| item.as_str() == text);
    Ok(list.iter().enumerate().skip(start).find(|(_, item)| is_it(item)).map_or(-1, |(index, _)| index as i64))
}

/// Sorts by merging, which keeps equal elements in order and survives any answer of the script's comparer. The comparer gives
/// a number (below 0: the first goes first) or says whether the first goes first.
fn sorted(context: &Context, call: &NativeCallContext, list: Array, by: &FnPtr) -> Outcome<Array> {
    context.charge(list.len() as u64)?;
    let mut width = 1;
    let mut list = list;
    while width < list.len() {
        let mut merged = Vec::with_capacity(list.len());
        let mut rest = list.into_iter().peekable();
        while rest.peek().is_some() {
            let left: Vec<Dynamic> = rest.by_ref().take(width).collect();
            let mut right = rest.by_ref().take(width).collect::<Vec<_>>().into_iter().peekable();
            for item in left {
                while let Some(other) = right.peek() {
                    let answer = by.call_raw(call, None, [other.clone(), item.clone()])?;
                    let goes_first = answer.as_bool().unwrap_or_else(|_| answer.as_int().is_ok_and(|answer| answer < 0));
                    if !goes_first {
                        break;
                    }
                    merged.extend(right.next());
                }
                merged.push(item);
            }
            merged.extend(right);
        }
        list = merged;
        width *= 2;
    }
    Ok(list)
}

/// Names that lead nowhere: reachable as texts (`Fn("sleep")`) even where the parser refuses them as words.
fn refuse(front: &mut Module) {
    fn refused(name: &'static str) -> Outcome<()> {
        let instead = surface::REFUSED.iter().find(|(refused, _)| *refused == name).map_or("", |(_, instead)| instead);
        complaint(format!("policies cannot use `{name}`; {instead}"))
    }
    FuncRegistration::new("sleep").set_into_module(front, |_: i64| refused("sleep"));
    FuncRegistration::new("sleep").set_into_module(front, |_: f64| refused("sleep"));
    FuncRegistration::new("exit").set_into_module(front, || refused("exit"));
    FuncRegistration::new("exit").set_into_module(front, |_: Dynamic| refused("exit"));
    FuncRegistration::new("parse_json").set_into_module(front, |_: ImmutableString| refused("parse_json"));
    FuncRegistration::new("get_fn_metadata_list").set_into_module(front, || refused("get_fn_metadata_list"));
    FuncRegistration::new("get_fn_metadata_list").set_into_module(front, |_: ImmutableString| refused("get_fn_metadata_list"));
    FuncRegistration::new("get_fn_metadata_list")
        .set_into_module(front, |_: ImmutableString, _: i64| refused("get_fn_metadata_list"));
    for name in BY_NAME.iter().filter(|name| **name != "index_of") {
        let by_name = move || -> Outcome<()> {
            complaint(format!("`{name}` takes a function, such as `|x| x > 1`, and not the name of one"))
        };
        FuncRegistration::new(*name).set_into_module(front, move |_: &mut Array, _: ImmutableString| by_name());
        if name.starts_with("reduce") {
            FuncRegistration::new(*name).set_into_module(front, move |_: &mut Array, _: ImmutableString, _: Dynamic| by_name());
        }
    }
}
