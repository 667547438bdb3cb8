//! Which lines of policies have run: for those who test them.
//!
//! Rhai's debugger interface is told of each place a script comes by. That costs several times what the script does, so an
//! engine watches only where it is asked to.

use super::engine::Engine;
use super::script::{Policy, alone};
use rhai::debugger::{DebuggerCommand, DebuggerEvent};
use rhai::{ASTNode, Position, Stmt};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

/// Line numbers, by file.
pub type Lines = BTreeMap<Arc<str>, BTreeSet<u32>>;

impl Engine {
    /// Remembers from now on which lines run. To be called before the first policy is compiled.
    pub fn watch_lines(&mut self) {
        let run: Rc<RefCell<Lines>> = Rc::default();
        let (seen, context) = (run.clone(), self.context.clone());
        // Rhai marks the interface to its debugger as one that may change, by this attribute.
        #[allow(deprecated)]
        self.rhai.register_debugger(
            |_, debugger| debugger,
            move |_, event, _, _, place: Position| {
                if let (DebuggerEvent::Start | DebuggerEvent::Step, Some(line)) = (event, place.line()) {
                    let sheet = context.sheet.borrow();
                    let mut seen = seen.borrow_mut();
                    match seen.get_mut(&sheet.file) {
                        Some(lines) => drop(lines.insert(line as u32)),
                        None => drop(seen.insert(sheet.file.clone(), [line as u32].into())),
                    }
                }
                Ok(DebuggerCommand::StepInto)
            },
        );
        self.lines_run = Some(run);
    }

    /// The lines that have run since it began to watch, by the policy's file.
    pub fn lines_run(&self) -> Lines {
        self.lines_run.as_ref().map(|run| run.borrow().clone()).unwrap_or_default()
    }
}

impl Policy {
    /// The lines on which a statement begins: those that can run.
    pub fn lines(&self) -> BTreeSet<u32> {
        let mut lines = BTreeSet::new();
        for function in self.0.ast.iter_fn_def() {
            alone(&self.0.ast, function).walk(&mut |path: &[ASTNode]| {
                if let Some(ASTNode::Stmt(statement)) = path.last()
                    && !matches!(statement, Stmt::Noop(..) | Stmt::Block(..))
                {
                    lines.extend(statement.position().line().map(|line| line as u32));
                }
                true
            });
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::State;
    use crate::policy::testing::{Bench, load};
    use std::collections::BTreeSet;

    #[test]
    fn a_branch_that_is_not_taken_is_not_covered() {
        let text = "fn on_load(vm) {
    // A comment.
    let busy = [vm].filter(|one| one.cpu > 0.5);
    if busy.is_empty() {
        print(\"idle\");
    } else {
        this.count = 1;
    }
    helper(
        2
    );
}

fn helper(x) {
    x + 1
}

fn on_crashed() {
    print(\"never\");
}
";
        let mut bench = Bench::new();
        bench.engine.watch_lines();
        let bound = bench.checked(text).unwrap();
        bench.step(&bound, &mut State::default(), &load()).unwrap();
        let run = bench.engine.lines_run().remove("test.rhai").unwrap();
        let lines = bound.policy().lines();
        assert_eq!(lines, BTreeSet::from([3, 4, 5, 7, 9, 15, 19]));
        assert_eq!(lines.difference(&run).copied().collect::<Vec<_>>(), [5, 19]);
    }
}
