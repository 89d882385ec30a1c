//! One refund, from the question to the acknowledgement, as the agent of a running `make run`:
//!
//! ```sh
//! cargo run -p relaytrace-client --example refund
//! ```

use anyhow::Context as _;
use relaytrace_client::{Action, Client, Credentials, Envelope, Priority};
use serde_json::json;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Of your own deployment: the address, and what registering the agent's key returned.
    let path = std::env::var("RELAYTRACE_DEV_JSON").unwrap_or_else(|_| ".local/dev.json".into());
    let stack = std::fs::read_to_string(&path).with_context(|| format!("no {path}: is `make run` running?"))?;
    let stack: serde_json::Value = serde_json::from_str(&stack)?;
    let text = |member: &str| stack["agent"][member].as_str().unwrap_or_default();
    let credentials =
        Credentials::new(text("agent_id"), text("key_id"), text("private_key_pem"), text("response_secret"))?;
    let client = Client::new(stack["base_url"].as_str().unwrap_or_default(), credentials)?;

    // Ask. After a crash the same key and envelope find the same question again.
    let action = Action::new("refund.create", json!({"customer": "88213", "amount": "1240.00", "currency": "EUR"}));
    let question = Envelope {
        summary: Some("The parcel was returned **unopened**.".into()),
        resume: Some(json!({"ticket": 7})),
        ..Envelope::new("refund-1042", Priority::P2, "Refund 1,240 EUR to customer 88213", action.clone())
    };
    let asked = client.submit(&question).await?;
    println!("asked: {}, to be answered by {}", asked.request_id, asked.respond_by);

    // Wait. What arrives here is signed for this very call.
    let answer = client.answer(&asked).await?;
    println!("{:?} by {} ({})", answer.outcome, answer.decided_by.id, answer.cause);

    // Keep the receipt: it proves later what was decided, to anyone.
    let receipt = client.receipt_keys().await?.verify(&answer)?;
    println!("a receipt of {} over {} chain entries", receipt.iss, receipt.chain_length);

    // Act, if exactly this action was approved; then say so, or the answer comes again.
    if answer.permits(&action) {
        println!("refunding, for ticket {}", answer.resume.as_ref().map_or(&json!(null), |resume| &resume["ticket"]));
    }
    if answer.delivery_id.is_none() {
        println!("this was answered and acknowledged before: there is nothing to do");
        return Ok(());
    }
    let acknowledged = client.accept(&answer).await?;
    println!("{:?}", acknowledged.state);
    Ok(())
}
