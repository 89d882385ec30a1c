//! Restate's side of a handoff: a handler that waits on an awakeable until an operator resolves it.

use restate_sdk::prelude::*;
use serde_json::{Value, json};

struct Approval;

#[service(name = "approval")]
impl Approval {
    #[handler]
    async fn request(&self, context: Context<'_>, asked: Json<Value>) -> Result<Json<Value>, HandlerError> {
        let (_id, decision) = context.awakeable::<Json<Value>>();
        let decision = decision.await?.into_inner();
        let tool = asked.into_inner()["tool"].take();
        Ok(Json::from(json!({"decision": decision["decision"], "comment": decision["comment"], "tool": tool})))
    }
}

#[tokio::main]
async fn main() {
    let address = std::env::var("PEER_ADDRESS").unwrap_or_else(|_| "127.0.0.1:29080".to_owned());
    let endpoint = Endpoint::builder().bind(Approval).build();
    HttpServer::new(endpoint).listen_and_serve(address.parse().expect("PEER_ADDRESS")).await;
}
