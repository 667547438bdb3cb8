//! The names Rhai's own packages give to scripts, and hints towards the nearest known name.

use crate::error::nearest;
use crate::policy::surface::{self, Function};
use rhai::packages::{Package, StandardPackage};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// Rhai's standard functions with how many arguments they take, a method's object counted. Properties are `get$name`.
pub(super) static STANDARD: LazyLock<BTreeMap<String, BTreeSet<usize>>> = LazyLock::new(|| {
    let mut engine = rhai::Engine::new_raw();
    StandardPackage::new().register_into_engine(&mut engine);
    let all = engine.collect_fn_metadata(None, |info| Some((info.metadata.name.to_string(), info.metadata.num_params)), true);
    let mut names: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    // These are part of the language, not of a package.
    let language =
        [("print", 1), ("debug", 1), ("type_of", 1), ("Fn", 1), ("is_shared", 1), ("is_def_var", 1), ("is_def_fn", 2)];
    for (name, arguments) in all.into_iter().chain(language.map(|(name, arguments)| (name.to_owned(), arguments))) {
        names.entry(name).or_default().insert(arguments);
    }
    names
});

/// Functions that exist for every value and may be called on a view.
pub(super) const FOR_ALL: [&str; 6] = ["type_of", "to_string", "to_debug", "print", "debug", "is_shared"];

/// Does a standard function of this name take so many arguments?
pub(super) fn is_standard(name: &str, arguments: usize) -> bool {
    // `call` and `curry` take what the function takes.
    matches!(name, "call" | "curry") || STANDARD.get(name).is_some_and(|takes| takes.contains(&arguments))
}

/// Is it a property of one of Rhai's own types?
pub(super) fn is_standard_property(name: &str) -> bool {
    STANDARD.contains_key(&format!("get${name}"))
}

/// The names of standard functions that people write.
pub(super) fn standard_names() -> impl Iterator<Item = &'static str> {
    STANDARD
        .keys()
        .map(String::as_str)
        .filter(|name| name.len() > 1 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
}

/// `migrate(reason)`, as a caller writes it; several forms are joined with `or`.
pub(super) fn signatures<'a>(object: &str, forms: impl Iterator<Item = &'a Function>) -> String {
    let all: Vec<String> = forms
        .map(|form| {
            let parameters: Vec<&str> = form.parameters.iter().map(|parameter| parameter.name).collect();
            let dot = if object.is_empty() { "" } else { "." };
            format!("`{object}{dot}{}({})`", form.name, parameters.join(", "))
        })
        .collect();
    all.join(" or ")
}

/// The method of this name of any type of the surface, with the type's name.
pub(super) fn methods_anywhere(name: &str) -> impl Iterator<Item = (&'static str, &'static Function)> + '_ {
    surface::TYPES.iter().flat_map(move |table| table.methods_named(name).map(|method| (table.name, method)))
}

/// ``did you mean `x`? ``, or a list of what there is.
pub(super) fn suggest(name: &str, known: &[&str], otherwise: &str) -> String {
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => otherwise.to_owned(),
        None => format!("{otherwise}: {}", known.join(", ")),
    }
}
