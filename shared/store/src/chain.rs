//! Reading the approval chain.

use crate::Scope;
use crate::database::Database;
use relaytrace_domain::Result;
use relaytrace_domain::{ChainEntry, Digest, RequestId};

/// A whole chain with the envelope that its first entry names.
#[derive(Clone, Debug)]
pub struct ChainExport {
    /// The envelope's exact bytes; `None`: erased.
    pub envelope: Option<Vec<u8>>,
    /// Number of entries that the request says it has.
    pub length: i32,
    /// Hash of the newest entry, as the request has it.
    pub head: Digest,
    /// All entries, oldest first.
    pub entries: Vec<ChainEntry>,
}

impl Database {
    /// Everything that is needed to verify a request's chain offline.
    pub async fn chain(&self, scope: &Scope, request_id: RequestId) -> Result<Option<ChainExport>> {
        let rows = self.all(|| sqlx::query_file!("sql/chain.sql", request_id.0, scope.tenant.as_str())).await?;
        let mut export: Option<ChainExport> = None;
        for row in rows {
            if export.is_none() {
                let (envelope, length, head) = (row.envelope, row.chain_length, digest(row.chain_head)?);
                export = Some(ChainExport { envelope, length, head, entries: Vec::new() });
            }
            let (prev_hash, hash) = (digest(row.prev_hash)?, digest(row.hash)?);
            let entry = ChainEntry { seq: row.seq, entry: row.entry, prev_hash, hash };
            export.as_mut().expect("set above").entries.push(entry);
        }
        Ok(export)
    }
}

/// A digest from a column whose constraint says that it is one.
pub(super) fn digest(bytes: Vec<u8>) -> Result<Digest> {
    bytes.try_into().map_err(relaytrace_domain::Error::internal)
}
