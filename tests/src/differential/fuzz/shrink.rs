//! Makes a list that differs as short as it can be: leaves out a part, keeps it out where the rest differs still, and goes on until
//! no part can be left out.

use anyhow::Result;
use serde_json::Value;

use super::generate::List;
use crate::differential::compare::Difference;

/// Most lists that are tried: each takes some milliseconds on both runtimes.
const TRIES: usize = 400;

/// The shortest list found that differs, with how.
pub(super) async fn shortest(
    list: List,
    differs: impl AsyncFn(&List) -> Result<Option<Difference>>,
) -> Result<(List, Option<Difference>)> {
    let (mut best, mut found) = (list.clone(), differs(&list).await?);
    let (mut at, mut tries) = (0, 0);
    while found.is_some() && tries < TRIES {
        let Some(shorter) = without(&best, at) else { break };
        tries += 1;
        match differs(&shorter).await? {
            Some(difference) => (best, found) = (shorter, Some(difference)),
            None => at += 1,
        }
    }
    Ok((best, found))
}

/// The list without its part of this number, counted from outside to inside; nothing where there are no more.
fn without(list: &List, mut number: usize) -> Option<List> {
    let mut shorter = list.clone();
    for round in 0..list.rounds.len() {
        if number == 0 {
            shorter.rounds.remove(round);
            return Some(shorter);
        }
        number -= 1;
        for call in 0..list.rounds[round].len() {
            if number == 0 {
                shorter.rounds[round].remove(call);
                return Some(shorter);
            }
            number -= 1;
            if let Some(operations) = shorter.rounds[round][call].get_mut("run")
                && remove(operations, &mut number)
            {
                return Some(shorter);
            }
        }
    }
    None
}

/// Removes the operation of this number, those within others counted after them; false where there are not as many.
fn remove(operations: &mut Value, number: &mut usize) -> bool {
    let Some(list) = operations.as_array_mut() else { return false };
    for index in 0..list.len() {
        if *number == 0 {
            list.remove(index);
            return true;
        }
        *number -= 1;
        let name = list[index][0].as_str().unwrap_or_default();
        let inner = match name {
            "section" | "transaction" | "transaction_sync" => 1,
            "call" => 2,
            _ => continue,
        };
        if remove(&mut list[index][inner], number) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn only_what_differs_is_left() {
        let section = json!(["section", [["note", 1], ["get", "k"], ["note", 2]], "return"]);
        let call = |run: Value| json!({"on": "a", "run": run});
        let list = List {
            rounds: vec![
                vec![call(json!([["note", 0]]))],
                vec![call(json!([["note", 3], section])), call(json!([]))],
            ],
        };
        let differs = async |list: &List| {
            let has = list.to_json().to_string().contains("[\"get\",\"k\"]");
            let found = Difference { step: String::new(), at: String::new(), truth: None, berth: None };
            Ok(has.then_some(found))
        };
        let (shortest, found) = shortest(list, differs).await.unwrap();
        assert!(found.is_some());
        assert_eq!(json!(shortest.rounds), json!([[call(json!([["section", [["get", "k"]], "return"]]))]]));
    }
}
