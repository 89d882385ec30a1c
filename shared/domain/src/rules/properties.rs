//! What holds of all documents and submissions: the index leaves nothing out, and no way of asking gets an approval that a
//! stricter reading would not give.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::Priority;

const VERDICTS: [&str; 3] = ["approve", "reject", "ask"];

/// A rule of few names, so that rules and facts meet. `exists` is left out: it says itself what an absent argument means.
fn any_rule() -> impl Strategy<Value = Value> {
    let few =
        |names: &'static [&'static str]| proptest::option::of(proptest::sample::subsequence(names, 1..=names.len()));
    let tests = vec!["gt", "lte", "equals", "prefix"];
    let number = proptest::option::of((0..4_i32, proptest::sample::select(tests)));
    let mode = prop_oneof![6 => Just("enforce"), 1 => Just("shadow"), 1 => Just("off")];
    let scope = (few(&["a", "b"]), few(&["x.one", "x.*", "*", "y"]), few(&["P1", "P2", "P3"]));
    let then = (proptest::sample::select(VERDICTS.to_vec()), proptest::option::of(1..=10_i32));
    (scope, number, any::<bool>(), mode, then).prop_map(
        |((agents, types, priorities), number, is_not, mode, (verdict, approvals))| {
            let mut of = json!({});
            let lists = [("agents", agents), ("action_types", types), ("priorities", priorities)];
            for (name, list) in lists.into_iter().filter_map(|(name, list)| Some((name, list?))) {
                of[name] = json!(list);
            }
            if let Some((number, test)) = number {
                let operand = if test == "prefix" { json!(number.to_string()) } else { json!(number) };
                let arguments = json!({"/n": {test: operand}});
                if is_not { of["not"] = json!({"arguments": arguments}) } else { of["arguments"] = arguments }
            }
            let ask = approvals.map_or(json!({}), |approvals| json!({"approvals": approvals}));
            let then = if verdict == "ask" { json!({"ask": ask}) } else { json!({"decide": verdict, "reason": "x"}) };
            json!({"mode": mode, "match": of, "then": then})
        },
    )
}

fn any_rules() -> impl Strategy<Value = Vec<Value>> {
    proptest::collection::vec(any_rule(), 0..12)
}

/// `n` of every kind, or absent.
fn any_arguments() -> impl Strategy<Value = Value> {
    proptest::sample::select(vec![
        json!({}),
        json!({"n": 0}),
        json!({"n": 2}),
        json!({"n": "2.0"}),
        json!({"n": "x"}),
        json!({"n": null}),
        json!({"n": [2]}),
        json!({"N": 1, "n": 1}),
    ])
}

fn any_facts() -> impl Strategy<Value = Facts<'static>> {
    (
        proptest::sample::select(vec!["a", "b", "c"]),
        proptest::sample::select(vec!["x.one", "x.two", "y", "z"]),
        proptest::sample::select(vec![Priority::P1, Priority::P2, Priority::P3]),
        proptest::sample::select(vec![Latitude::Ask, Latitude::Reject, Latitude::Approve]),
    )
        .prop_map(|(agent_id, action_type, priority, latitude)| Facts {
            agent_id,
            action_type,
            priority,
            group: None,
            on_behalf_of: None,
            latitude,
        })
}

/// The document of these rules, named by their places.
fn document(list: &[Value]) -> Rules {
    let named = list.iter().enumerate().map(|(place, rule)| {
        let mut rule = rule.clone();
        if rule.get("name").is_none() {
            rule["name"] = json!(place.to_string());
        }
        rule
    });
    let text = json!({"rules": named.collect::<Vec<_>>(), "note": "x"}).to_string();
    RulesDocument::parse(text.as_bytes()).unwrap().rules
}

fn judge(list: &[Value], facts: &Facts<'_>, arguments: &Value) -> Judgement {
    document(list).judge(facts, || Json::parse(arguments.to_string().as_bytes()).unwrap())
}

fn is_approved(list: &[Value], facts: &Facts<'_>, arguments: &Value) -> bool {
    let applied = judge(list, facts, arguments).applied;
    applied.is_some_and(|applied| matches!(applied.effect, Effect::Approve(_)))
}

/// What a rule alone comes to, were it in force and asked: holds, or fails; `None`: neither.
fn alone(rule: &Value, facts: &Facts<'_>, arguments: &Value) -> Option<bool> {
    let mut rule = rule.clone();
    (rule["mode"], rule["then"]) = (json!("enforce"), json!({"ask": {}}));
    judge(&[rule], facts, arguments).applied.map(|applied| applied.failed)
}

fn verdict(rule: &Value) -> &str {
    rule["then"]["decide"].as_str().unwrap_or("ask")
}

/// The contract's sentences one after the other, without an index: name, effect, approvals.
fn by_the_contract(list: &[Value], facts: &Facts<'_>, arguments: &Value) -> Option<(String, String, i32)> {
    let may = |verdict: &str| match verdict {
        "approve" => facts.latitude == Latitude::Approve && facts.priority != Priority::P1,
        "reject" => facts.latitude != Latitude::Ask,
        _ => true,
    };
    let judged = list.iter().enumerate().filter(|(_, rule)| rule["mode"] == "enforce");
    let judged: Vec<_> =
        judged.filter_map(|(place, rule)| Some((place, rule, alone(rule, facts, arguments)?))).collect();
    let (place, rule, failed) = judged.first()?;
    let of_rule =
        |rule: &Value| rule["then"]["ask"]["approvals"].as_i64().map_or(1, |many| i32::try_from(many).unwrap());
    if !failed && may(verdict(rule)) {
        return Some((place.to_string(), verdict(rule).to_owned(), of_rule(rule)));
    }
    let rejects = judged.iter().find(|(_, rule, failed)| !failed && verdict(rule) == "reject" && may("reject"));
    if let Some((place, ..)) = rejects.filter(|_| *failed) {
        return Some((place.to_string(), "reject".into(), 1));
    }
    let approvals = judged.iter().map(|(_, rule, _)| of_rule(rule)).max();
    Some((place.to_string(), "ask".into(), approvals?))
}

proptest! {
    #[test]
    fn what_applies_is_what_the_contract_says(list in any_rules(), facts in any_facts(), arguments in any_arguments()) {
        let found = judge(&list, &facts, &arguments).applied.map(|applied| {
            let approvals = applied.effect.ask().and_then(|ask| ask.approvals).map_or(1, |whole| whole.0);
            (applied.rule.to_string(), applied.effect.as_str().to_owned(), approvals)
        });
        prop_assert_eq!(found, by_the_contract(&list, &facts, &arguments));
    }

    /// Whatever approves is the first that holds, and none before it could not be judged.
    #[test]
    fn only_the_first_that_holds_approves(list in any_rules(), facts in any_facts(), arguments in any_arguments()) {
        let Some(Applied { rule, effect: Effect::Approve(_), .. }) = judge(&list, &facts, &arguments).applied else {
            return Ok(());
        };
        prop_assert!(facts.latitude == Latitude::Approve && facts.priority != Priority::P1);
        let place: usize = rule.as_str().parse().unwrap();
        prop_assert_eq!(verdict(&list[place]), "approve");
        for before in list[..place].iter().filter(|rule| rule["mode"] == "enforce") {
            prop_assert_eq!(alone(before, &facts, &arguments), None);
        }
    }

    /// To leave an argument out, to give it another kind or a second time in another case gets no approval that it would
    /// not have as it is.
    #[test]
    fn arguments_that_cannot_be_judged_get_nothing_approved(
        list in any_rules(),
        facts in any_facts(),
        n in proptest::sample::select(vec![json!(0), json!(2), json!("2.0")]),
        odd in proptest::sample::select(vec![json!({}), json!({"n": null}), json!({"n": {}}), json!({"n": 2, "N": 2})]),
    ) {
        if is_approved(&list, &facts, &odd) {
            let whole = json!({"n": n});
            prop_assert!(is_approved(&list, &facts, &whole));
        }
    }

    /// One more rule that cannot be judged, or that asks or rejects, gets nothing approved.
    #[test]
    fn one_more_rule_gets_nothing_approved(
        list in any_rules(),
        facts in any_facts(),
        arguments in any_arguments(),
        at in any::<proptest::sample::Index>(),
        of in proptest::sample::select(vec![json!({}), json!({"arguments": {"/n": {"gt": 1}}}), json!({"arguments": {"/absent": {"gt": 1}}})]),
        then in proptest::sample::select(vec![json!({"ask": {}}), json!({"decide": "reject", "reason": "x"})]),
    ) {
        let mut more: Vec<_> = list.iter().enumerate().map(|(place, rule)| {
            let mut rule = rule.clone();
            rule["name"] = json!(place.to_string());
            rule
        }).collect();
        let of_it = json!({"name": "more", "mode": "enforce", "match": of, "then": then});
        more.insert(at.index(list.len() + 1), of_it);
        if is_approved(&more, &facts, &arguments) {
            prop_assert!(is_approved(&list, &facts, &arguments));
        }
    }

    /// Rules of the shadow change nothing of what applies.
    #[test]
    fn shadows_never_act(list in any_rules(), facts in any_facts(), arguments in any_arguments()) {
        let without: Vec<_> = list.iter().map(|rule| {
            let mut rule = rule.clone();
            if rule["mode"] == "shadow" {
                rule["mode"] = json!("off");
            }
            rule
        }).collect();
        let (with, without) = (judge(&list, &facts, &arguments), judge(&without, &facts, &arguments));
        prop_assert_eq!(with.applied, without.applied);
        prop_assert!(without.shadow.is_none());
        if let Some(would) = with.shadow {
            let place: usize = would.rule.as_str().parse().unwrap();
            prop_assert_eq!(&list[place]["mode"], "shadow");
        } else {
            let holds = |rule: &&Value| rule["mode"] == "shadow" && alone(rule, &facts, &arguments) == Some(false);
            prop_assert_eq!(list.iter().find(holds), None);
        }
    }

    /// What has the same digest is judged alike: a tool sees no more of a number than its double.
    #[test]
    fn equal_digests_are_judged_alike(
        whole in 0..60_u32,
        digits in "[0-9]{0,2}(0|9){12,30}[0-9]",
        exponent in proptest::sample::select(vec!["", "e0", "E+1", "e-2", "e-399"]),
        test in proptest::sample::select(vec!["equals", "in", "lt", "lte", "gt", "gte"]),
        operand in prop_oneof![(0..60_i32).prop_map(|number| json!(number)), Just(json!("49.99")), Just(json!("0"))],
        depth in 0..3_usize,
    ) {
        let nested = |number: &str| format!("{}{number}{}", "[".repeat(depth), "]".repeat(depth));
        let asked: Value = serde_json::from_str(&nested(&operand.to_string())).unwrap();
        let asked = if test == "in" { json!([asked, asked]) } else { asked };
        let text = json!({"rules": [{"name": "r", "mode": "enforce", "match": {"arguments": {"/n": {test: asked}}},
            "then": {"decide": "reject", "reason": "x"}}], "note": ""}).to_string();
        let Ok(document) = RulesDocument::parse(text.as_bytes()) else { return Ok(()) };
        let written = format!(r#"{{"n":{}}}"#, nested(&format!("{whole}.{digits}{exponent}")));
        let written = Json::parse(written.as_bytes()).unwrap();
        let canonical = Json::parse(&written.canonical()).unwrap();
        prop_assert_eq!(crate::canonical_digest(&written), crate::canonical_digest(&canonical));
        let facts = Facts {
            agent_id: "a",
            action_type: "x",
            priority: Priority::P2,
            group: None,
            on_behalf_of: None,
            latitude: Latitude::Approve,
        };
        prop_assert_eq!(document.rules.judge(&facts, || written), document.rules.judge(&facts, || canonical));
    }

    /// No text makes the reader panic, and what it takes it takes again.
    #[test]
    fn any_document_is_read_or_refused(text in r#"\{"rules":\[(\{"name":"a","mode":"(enforce|off)","match":\{("arguments":\{"(/a)?":\{"(gt|in|exists)":[0-9a-z\[\]"]{0,3}\}\})?\},"then":\{"(ask|decide)":(\{\}|"approve")\}\},?){0,2}\],"note":"x"\}"#) {
        if let Ok(document) = RulesDocument::parse(text.as_bytes()) {
            prop_assert!(RulesDocument::of_list(&document.text).is_ok());
        }
    }

    /// Nor does any document that is taken make judging panic, whatever the arguments are.
    #[test]
    fn whatever_is_read_is_judged(
        pointer in r"(/([a-zA~01é]{0,3}|[0-9]{1,20})){0,6}",
        test in proptest::sample::select(vec!["equals", "in", "lt", "lte", "gt", "gte", "prefix", "exists", "length_lte"]),
        operand in any_json(),
        arguments in any_json(),
        is_not in any::<bool>(),
    ) {
        let asked = json!({pointer: {test: operand}});
        let of = if is_not { json!({"not": {"arguments": asked}}) } else { json!({"arguments": asked}) };
        let then = json!({"decide": "approve", "reason": "x"});
        let text = json!({"rules": [{"name": "r", "mode": "enforce", "match": of, "then": then}], "note": ""}).to_string();
        let Ok(document) = RulesDocument::parse(text.as_bytes()) else { return Ok(()) };
        let arguments = arguments.to_string();
        let Ok(arguments) = Json::parse(arguments.as_bytes()) else { return Ok(()) };
        let facts = Facts {
            agent_id: "a",
            action_type: "x",
            priority: Priority::P2,
            group: None,
            on_behalf_of: None,
            latitude: Latitude::Approve,
        };
        let judgement = document.rules.judge(&facts, || arguments);
        let effect = judgement.applied.as_ref().map(|applied| (applied.effect.as_str(), applied.failed));
        prop_assert!(matches!(effect, None | Some(("approve", false) | ("ask", true))), "{:?}", judgement);
        prop_assert_eq!(judgement.failed.len(), usize::from(effect == Some(("ask", true))));
    }
}

/// JSON of every kind, with numbers and texts at the edges of what is compared.
fn any_json() -> impl Strategy<Value = Value> {
    let odd =
        ["", "0", "-0", "1e400", "1e401", "-1e-400", "007", "NaN", "\u{0}", "\u{1F600}", "9007199254740993", "5.", "é"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        proptest::sample::select(odd.to_vec()).prop_map(Value::from),
        "[a-zA-Z0-9.eE+-]{0,420}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map("[aA0-9z~/]{0,2}", inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}
