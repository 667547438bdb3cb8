//! What `fn settings()` declares.

use super::facts::Setting;
use super::walk::{Walk, constant};
use crate::error::Spot;
use rhai::{Expr, Position, Stmt};
use std::collections::BTreeMap;

impl<'a> Walk<'a> {
    /// The keys and defaults, where the function ends in a map written out.
    pub(super) fn settings(&mut self, body: &'a [Stmt]) {
        self.facts.computes_settings = true;
        let map = match body.last() {
            Some(Stmt::Expr(expr)) => &**expr,
            Some(Stmt::Return(Some(expr), ..)) => &**expr,
            _ => return,
        };
        let mut all = BTreeMap::new();
        match map {
            Expr::Map(map, _) => {
                for (key, value) in &map.0 {
                    let guess = self.expr(value);
                    all.insert(key.name.to_string(), Setting::new(guess, self.spot(key.pos, &key.name)));
                }
            }
            // The optimizer turns a map of constants into one constant.
            Expr::DynamicConstant(map, position) => {
                let Ok(map) = map.as_map_ref() else { return };
                for (key, value) in map.iter() {
                    let spot = self.find_key(*position, key);
                    all.insert(key.to_string(), Setting::new(constant(value), spot));
                }
            }
            _ => return,
        }
        self.learnt.settings = Some(all.iter().map(|(key, setting)| (key.clone(), setting.guess().clone())).collect());
        self.facts.settings = Some(all);
    }

    /// Where a map's key stands that the optimizer took the place of: the first such word after the map's beginning.
    fn find_key(&self, map: Position, key: &str) -> Spot {
        let first = map.line().unwrap_or(1);
        for (index, line) in self.text.lines().enumerate().skip(first - 1) {
            let Some(byte) =
                line.find(key).filter(|byte| line[byte + key.len()..].trim_start_matches('"').trim_start().starts_with(':'))
            else {
                continue;
            };
            let position = Position::new(
                u16::try_from(index + 1).unwrap_or(u16::MAX),
                u16::try_from(line[..byte].chars().count() + 1).unwrap_or(u16::MAX),
            );
            return self.spot(position, key);
        }
        self.spot(map, key)
    }
}
