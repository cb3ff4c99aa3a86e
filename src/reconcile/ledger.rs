//! Writes the ledger, always at the version it was read at: who comes second reads again and asks again.

use super::{Clients, Failure, tell};
use crate::{
    adapters::kubernetes::DryRun,
    domain::{
        class::Class,
        ledger::{Book, Ledger},
        records,
        render::Context,
    },
    telemetry::audit,
};

/// How often another writer may get in first. Entries are short and few.
const TRIES_MAX: usize = 8;

/// Writes what `change` makes of the book; nothing where it makes nothing of it.
pub(super) async fn write(
    clients: &Clients,
    context: &Context<'_>,
    mut ledger: Ledger,
    mut change: impl FnMut(&Book) -> Result<Option<Book>, Failure>,
) -> Result<(), Failure> {
    let kubernetes = clients.kubernetes();
    for _ in 0..TRIES_MAX {
        let Some(book) = change(&ledger.book)? else { return Ok(()) };
        let changes = tell::changes_of_book(&ledger.book, &book);
        let mut object = records::ledger(context, &book);
        let written = match &ledger.resource_version {
            None => audit::noting(changes, kubernetes.create(&object, DryRun::No)).await,
            Some(version) => {
                object.body["metadata"]["resourceVersion"] = version.as_str().into();
                audit::noting(changes, kubernetes.replace(&object, DryRun::No)).await
            }
        };
        match written {
            Ok(_) => return Ok(()),
            Err(error) if error.class() == Class::Conflict => {
                ledger = clients.ledger(&records::ledger_name(context.fleet)).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::conflict("the ledger changed under every try"))
}
