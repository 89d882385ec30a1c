use super::*;

fn task(form: Form) -> Task {
    Task::new(Uuid::from_u128(7), form, "http://relay/?id=7", now())
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_task_ends_once_and_is_told_in_the_form_of_its_client() {
    let mut core = task(Form::Core);
    let created = parsed(&core.created());
    assert_eq!((&created["task"]["status"], &created["task"]["pollInterval"]), (&json!("working"), &json!(1_000)));
    assert!(created["task"]["ttl"].as_u64().unwrap() >= 3_599_000);
    assert!(created["_meta"][IMMEDIATE].as_str().unwrap().contains("http://relay/?id=7"));
    assert!(core.enter(Phase::Completed(r#"{"content":[],"_meta":{"n":1.0}}"#.to_owned())));
    assert!(!core.enter(Phase::Cancelled));
    assert_eq!(parsed(&core.state(None))["status"], "completed");
    let mut extension = task(Form::Extension);
    assert_eq!(parsed(&extension.created())["resultType"], "task");
    let asked = json!({"method": "elicitation/create"});
    assert_eq!(parsed(&extension.state(Some(asked.clone())))["status"], "input_required");
    assert!(extension.enter(Phase::Completed(r#"{"content":[1.0]}"#.to_owned())));
    let state = extension.state(Some(asked));
    assert!(state.contains(r#""result":{"content":[1.0]}"#) && state.contains(r#""status":"completed""#), "{state}");
    assert_eq!(request_of(&extension.id), Some(Uuid::from_u128(7)));
    assert_eq!(request_of("relaytrace-task-7"), None);
}

#[test]
fn a_result_names_its_task_and_stays_as_it_was() {
    let result = r#"{"content":[1.0],"_meta":{"n":1e0}}"#;
    let related = format!(r#"{{"content":[1.0],"_meta":{{"n":1e0,"{RELATED_TASK}":{{"taskId":"t"}}}}}}"#);
    assert_eq!(with_related(result, "t"), related);
}

#[test]
fn a_task_of_the_server_has_another_name_for_its_client() {
    let mut tasks = Tasks::default();
    let ours = task(Form::Core).id;
    assert!(tasks.add(task(Form::Core)) && !tasks.add(task(Form::Core)));
    assert!(tasks.pass(&ours, "s"));
    for text in [
        r#"{"id":1,"result":{"taskId":"ID","status":"working"}}"#.to_owned(),
        r#"{"method":"notifications/tasks/status","params":{"taskId":"ID"}}"#.to_owned(),
        format!(r#"{{"id":1,"result":{{"content":[],"_meta":{{"a":1,"{RELATED_TASK}":{{"taskId":"ID"}}}}}}}}"#),
        format!(r#"{{"id":1,"method":"e","params":{{"_meta":{{"{RELATED_TASK}":{{"taskId":"ID"}}}}}}}}"#),
    ] {
        let (of_server, of_client) = (text.replace("ID", "s"), text.replace("ID", &ours));
        assert_eq!(tasks.to_client(&Members::look(&of_server).unwrap()), Some(of_client.clone()));
        assert_eq!(tasks.to_server(&Members::look(&of_client).unwrap()), Some(of_server));
    }
    assert_eq!(tasks.to_client(&Members::look(r#"{"params":{"taskId":"other"}}"#).unwrap()), None);
}

#[test]
fn what_is_kept_of_results_has_a_limit() {
    let mut tasks = Tasks::default();
    for number in 0..3 {
        let mut task = Task::new(Uuid::from_u128(number), Form::Core, "", now());
        assert!(task.enter(Phase::Completed("x".repeat(MOST_KEPT / 2 + 1))));
        tasks.add(task);
    }
    tasks.add(Task::new(Uuid::from_u128(9), Form::Core, "", now()));
    assert_eq!((tasks.all.len(), tasks.live()), (2, 1));
}
