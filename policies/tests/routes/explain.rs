//! What `explain` says.

use crate::notation::{health, tree};
use keyway_policies::routes::explain::ExplainAt;
use keyway_policies::{ExplainUse, HealthView, RequestView};
use keyway_protocol::Operation;

fn check(tree_text: &str, up: &str, operation: Operation, expected: &str) {
    let routes = tree(tree_text);
    let request = RequestView::of_key(operation, b"key");
    let told: Vec<String> = routes
        .explain(&request, HealthView(&health(up)), ExplainAt::default())
        .into_iter()
        .map(|step| {
            let name = step.server.map_or(step.route.to_owned(), |server| server.0.to_string());
            let usage = match step.usage {
                ExplainUse::Now => "",
                ExplainUse::Later => " later",
                ExplainUse::Skipped => " skipped",
            };
            format!("{}{name}{usage}", ".".repeat(step.depth))
        })
        .collect();
    assert_eq!(told.join("; "), expected, "{tree_text} with {up}");
}

#[test]
fn the_way_of_a_request() {
    let tree = "O(get=M(0 A(1 2)) set=A(0 1) D(0 1 2))";
    for (up, operation, expected) in [
        (
            "111",
            Operation::Get,
            "OperationSelectorRoute; .MissFailoverRoute; ..0; ..AllFastestRoute later; ...1 later; ...2 later",
        ),
        (
            "010",
            Operation::Get,
            "OperationSelectorRoute; .MissFailoverRoute; ..0 skipped; ..AllFastestRoute; ...1; ...2 skipped",
        ),
        ("111", Operation::Set, "OperationSelectorRoute; .AllFastestRoute; ..0; ..1"),
        ("011", Operation::Delete, "OperationSelectorRoute; .DefaultRoute; ..0 skipped; ..1"),
        ("000", Operation::Set, "OperationSelectorRoute skipped; .AllFastestRoute skipped; ..0 skipped; ..1 skipped"),
        ("111", Operation::Version, "LocalRoute"),
    ] {
        check(tree, up, operation, expected);
    }
    check("P(0 1)", "11", Operation::Get, "PoolRoute; .0");
    check("P(0 1)", "01", Operation::Get, "PoolRoute skipped; .0 skipped");
    check("O(stats=1 0)", "11", Operation::Stats, "1");
    check("M(L 0 1)", "11", Operation::Get, "MissFailoverRoute; .LocalRoute; .0; .1 later");
    check("P()", "", Operation::Get, "PoolRoute skipped");
}
