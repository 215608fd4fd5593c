//! Roles and affiliations (XEP-0045, 5), and who may change whose: pure tables.

use serde::{Deserialize, Serialize};

use crate::server::StanzaError;

/// What somebody is to the room, whether or not they are in it (XEP-0045, 5.2). In rising order.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Affiliation {
    Outcast,
    #[default]
    None,
    Member,
    Admin,
    Owner,
}

/// What an occupant may do while here (XEP-0045, 5.1). In rising order; `None`: not, or no longer, an occupant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    #[default]
    None,
    Visitor,
    Participant,
    Moderator,
}

impl Affiliation {
    pub const ALL: [Self; 5] = [
        Self::Outcast,
        Self::None,
        Self::Member,
        Self::Admin,
        Self::Owner,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Outcast => "outcast",
            Self::None => "none",
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    pub fn read(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == text)
    }

    /// The role on entering (XEP-0045, 7.2.4). `Role::None`: no entry.
    pub fn role(self, moderated: bool, members_only: bool) -> Role {
        match self {
            Self::Outcast => Role::None,
            Self::None if members_only => Role::None,
            Self::None if moderated => Role::Visitor,
            Self::None | Self::Member => Role::Participant,
            Self::Admin | Self::Owner => Role::Moderator,
        }
    }
}

impl Role {
    pub const ALL: [Self; 4] = [
        Self::None,
        Self::Visitor,
        Self::Participant,
        Self::Moderator,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Visitor => "visitor",
            Self::Participant => "participant",
            Self::Moderator => "moderator",
        }
    }

    pub fn read(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == text)
    }
}

/// Somebody's rank in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    pub affiliation: Affiliation,
    pub role: Role,
}

/// Whether `actor` may give `target` another role (XEP-0045, 5.1.2, 8.2 to 8.4, 9.6 and 9.7).
pub fn may_change_role(actor: Rank, target: Rank, role: Role) -> Result<(), StanzaError> {
    if actor.role < Role::Moderator {
        return Err(StanzaError::forbidden());
    }
    if target.affiliation > actor.affiliation {
        return Err(StanzaError::not_allowed());
    }
    let stays = role != Role::None;
    if stays && role < Role::Moderator && target.affiliation >= Affiliation::Admin {
        // Nobody takes the voice or the moderator's role of an admin or owner (5.1.1 and 5.2.1).
        return Err(StanzaError::not_allowed());
    }
    if actor.affiliation < Affiliation::Admin {
        if role == Role::Moderator {
            return Err(StanzaError::forbidden());
        }
        if target.role == Role::Moderator {
            return Err(StanzaError::not_allowed());
        }
    }
    Ok(())
}

/// Whether somebody of affiliation `actor` may make `target` into `to` (XEP-0045, 5.2.2, 9.1 to 9.5, 10.3 to 10.8). That a
/// room keeps an owner is for the caller to see.
pub fn may_change_affiliation(
    actor: Affiliation,
    target: Affiliation,
    to: Affiliation,
) -> Result<(), StanzaError> {
    match actor {
        Affiliation::Admin if to >= Affiliation::Admin => Err(StanzaError::forbidden()),
        Affiliation::Admin if target >= Affiliation::Admin => Err(StanzaError::not_allowed()),
        Affiliation::Admin | Affiliation::Owner => Ok(()),
        _ => Err(StanzaError::forbidden()),
    }
}

/// The role after a change of affiliation while in the room (XEP-0045, 5.1.2): what is gained is gained at once, what a
/// lost affiliation gave is lost, and what a moderator gave on top stays.
pub fn role_after(role: Role, old: Affiliation, new: Affiliation, default: Role) -> Role {
    if default == Role::None || new < old {
        default
    } else {
        role.max(default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for one in Affiliation::ALL {
            assert_eq!(Affiliation::read(one.name()), Some(one));
        }
        for one in Role::ALL {
            assert_eq!(Role::read(one.name()), Some(one));
        }
        assert_eq!(Affiliation::read("Owner"), None);
        assert_eq!(Role::read(""), None);
    }

    #[test]
    fn the_first_role_follows_the_table_of_7_2_4() {
        use Affiliation::{Admin, Member, None, Outcast, Owner};
        let table = [
            ("moderated", true, false, [Role::Visitor, Role::Participant]),
            ("open", false, false, [Role::Participant, Role::Participant]),
            ("members only", false, true, [Role::None, Role::Participant]),
            ("both", true, true, [Role::None, Role::Participant]),
        ];
        for (name, moderated, members_only, [none, member]) in table {
            let role = |one: Affiliation| one.role(moderated, members_only);
            assert_eq!(role(Outcast), Role::None, "{name}");
            assert_eq!(role(None), none, "{name}");
            assert_eq!(role(Member), member, "{name}");
            assert_eq!(role(Admin), Role::Moderator, "{name}");
            assert_eq!(role(Owner), Role::Moderator, "{name}");
        }
    }

    struct Change {
        name: &'static str,
        actor: (Affiliation, Role),
        target: (Affiliation, Role),
        role: Role,
        expected: Result<(), StanzaError>,
    }

    #[test]
    fn roles_change_as_the_chart_of_5_1_2_allows() {
        use Affiliation::{Admin, Member, None, Owner};
        use Role::{Moderator, Participant, Visitor};
        let forbidden = || Err(StanzaError::forbidden());
        let not_allowed = || Err(StanzaError::not_allowed());
        #[rustfmt::skip]
        let table = [
            Change { name: "a participant kicks", actor: (Member, Participant), target: (None, Visitor), role: Role::None, expected: forbidden() },
            Change { name: "a visitor gives voice", actor: (None, Visitor), target: (None, Visitor), role: Participant, expected: forbidden() },
            Change { name: "a moderator kicks a participant", actor: (None, Moderator), target: (None, Participant), role: Role::None, expected: Ok(()) },
            Change { name: "a moderator gives voice", actor: (None, Moderator), target: (None, Visitor), role: Participant, expected: Ok(()) },
            Change { name: "a moderator takes voice", actor: (Member, Moderator), target: (Member, Participant), role: Visitor, expected: Ok(()) },
            Change { name: "a moderator without affiliation takes a member's voice", actor: (None, Moderator), target: (Member, Participant), role: Visitor, expected: not_allowed() },
            Change { name: "a moderator kicks an admin", actor: (Member, Moderator), target: (Admin, Moderator), role: Role::None, expected: not_allowed() },
            Change { name: "a moderator kicks a moderator", actor: (Member, Moderator), target: (None, Moderator), role: Role::None, expected: not_allowed() },
            Change { name: "a moderator makes a moderator", actor: (Member, Moderator), target: (None, Participant), role: Moderator, expected: forbidden() },
            Change { name: "an admin makes a moderator", actor: (Admin, Moderator), target: (None, Visitor), role: Moderator, expected: Ok(()) },
            Change { name: "an admin unmakes a moderator", actor: (Admin, Moderator), target: (Member, Moderator), role: Participant, expected: Ok(()) },
            Change { name: "an admin unmakes an admin", actor: (Admin, Moderator), target: (Admin, Moderator), role: Participant, expected: not_allowed() },
            Change { name: "an owner takes an owner's voice", actor: (Owner, Moderator), target: (Owner, Moderator), role: Visitor, expected: not_allowed() },
            Change { name: "an owner takes an admin's voice", actor: (Owner, Moderator), target: (Admin, Moderator), role: Visitor, expected: not_allowed() },
            Change { name: "an admin kicks an owner", actor: (Admin, Moderator), target: (Owner, Moderator), role: Role::None, expected: not_allowed() },
            Change { name: "an owner kicks an admin", actor: (Owner, Moderator), target: (Admin, Moderator), role: Role::None, expected: Ok(()) },
        ];
        for Change {
            name,
            actor,
            target,
            role,
            expected,
        } in table
        {
            let rank = |(affiliation, role)| Rank { affiliation, role };
            let found = may_change_role(rank(actor), rank(target), role);
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn affiliations_change_as_the_chart_of_5_2_2_allows() {
        use Affiliation::{Admin, Member, None, Outcast, Owner};
        for actor in Affiliation::ALL {
            for target in Affiliation::ALL {
                for to in Affiliation::ALL {
                    let found = may_change_affiliation(actor, target, to);
                    let expected = match (actor, target, to) {
                        (Owner, _, _)
                        | (Admin, Outcast | None | Member, Outcast | None | Member) => Ok(()),
                        (Admin, _, Outcast | None | Member) => Err(StanzaError::not_allowed()),
                        _ => Err(StanzaError::forbidden()),
                    };
                    assert_eq!(found, expected, "{actor:?} {target:?} {to:?}");
                }
            }
        }
    }

    #[test]
    fn a_gained_role_comes_at_once_and_a_lost_one_goes() {
        use Affiliation::{Admin, Member, None};
        use Role::{Moderator, Participant, Visitor};
        let table = [
            (
                "a visitor becomes a member",
                Visitor,
                None,
                Member,
                Participant,
                Participant,
            ),
            (
                "a moderator becomes a member",
                Moderator,
                None,
                Member,
                Participant,
                Moderator,
            ),
            (
                "an admin becomes a member",
                Moderator,
                Admin,
                Member,
                Participant,
                Participant,
            ),
            (
                "a member loses it, moderated",
                Participant,
                Member,
                None,
                Visitor,
                Visitor,
            ),
            (
                "a member loses it, members only",
                Participant,
                Member,
                None,
                Role::None,
                Role::None,
            ),
        ];
        for (name, role, old, new, default, expected) in table {
            assert_eq!(role_after(role, old, new, default), expected, "{name}");
        }
    }
}
