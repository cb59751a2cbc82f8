//! Where an approval is shown.

use countersign_infra::config::{Escalation, Place, Route};
use countersign_infra::domain::announcement::Room;
use countersign_infra::domain::approval::Approval;
use countersign_infra::domain::chat_link::ChatAccount;

/// The routes of the configuration, in their order.
#[derive(Clone, Debug, Default)]
pub struct Routes(Vec<Route>);

impl Routes {
    pub fn new(routes: Vec<Route>) -> Self {
        Self(routes)
    }

    /// The first route that fits.
    pub fn of(&self, approval: &Approval) -> Option<&Route> {
        self.0.iter().find(|route| fits(route, approval))
    }
}

fn fits(route: &Route, approval: &Approval) -> bool {
    let target = &approval.place.target;
    let rules = || approval.terms.clauses.iter().map(|clause| &clause.rule);
    let groups = approval.deciding_groups();
    (route.targets.is_empty() || route.targets.iter().any(|pattern| matches(pattern, target)))
        && (route.rules.is_empty() || rules().any(|rule| route.rules.contains(rule)))
        && (route.groups.is_empty() || groups.iter().any(|group| route.groups.contains(group)))
}

/// Whether a name is of a pattern in which `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(found) => rest = rest.get(found + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    true
}

/// A channel as a room.
pub fn room(place: &Place) -> Room {
    Room {
        platform: place.platform,
        team: place.team.clone(),
        channel: place.channel.clone(),
        is_direct: false,
    }
}

/// The direct messages of an account as a room.
pub fn direct(account: &ChatAccount) -> Room {
    Room {
        platform: account.platform,
        team: account.team.clone(),
        channel: account.user.clone(),
        is_direct: true,
    }
}

/// The rooms of an escalation.
pub fn rooms(escalation: &Escalation) -> impl Iterator<Item = Room> + '_ {
    escalation.channels.iter().map(room)
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_infra::domain::example::approvals;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, expected) in [
            ("shop", "shop", true),
            ("shop", "shop2", false),
            ("shop*", "shop2", true),
            ("*", "", true),
            ("*", "anything", true),
            ("*-eu", "shop-eu", true),
            ("*-eu", "shop-eu-1", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn the_first_route_of_which_every_condition_fits_is_taken() {
        let (_, approval) = approvals().remove(0);
        let route = |text: &str| -> Route {
            let text = format!("channels = [\"slack:T1:C1\"]\n{text}");
            text.parse::<toml::Table>().unwrap().try_into().unwrap()
        };
        let rule = &approval.terms.clauses[0].rule;
        let group = &approval.terms.clauses[0].approvers[0];
        let target = &approval.place.target;
        for (conditions, expected) in [
            (String::new(), true),
            (format!("targets = [\"{target}\"]"), true),
            ("targets = [\"other\"]".to_owned(), false),
            (format!("rules = [\"{rule}\"]"), true),
            ("rules = [\"other\"]".to_owned(), false),
            (format!("groups = [\"other\", \"{group}\"]"), true),
            (format!("targets = [\"other\"]\ngroups = [\"{group}\"]"), false),
        ] {
            let routes = Routes::new(vec![route(&conditions)]);
            assert_eq!(routes.of(&approval).is_some(), expected, "{conditions}");
        }
        let mut last = route("");
        last.remind_seconds = Some(77);
        let routes = Routes::new(vec![route("targets = [\"other\"]"), last]);
        assert_eq!(routes.of(&approval).and_then(|route| route.remind_seconds), Some(77));
    }
}
