//! Skills, and what sessions keep of them.

use freehold_base::{EnvironmentId, SkillId, SkillVersionId};

use super::cases;
use super::world::World;
use crate::{
    AddSkillVersionError, CreateSessionError, DeleteSkillVersionError, NewSession, NewSkill,
    NewSkillVersion, SkillQuery, SkillRow, SkillVersionRow, VersionName,
};

cases! {
    a_skill_has_the_version_it_was_made_with,
    versions_are_numbered_and_listed_newest_first,
    every_version_has_the_name_of_its_skill,
    the_only_version_stays,
    deleting_the_newest_makes_the_one_before_it_newest,
    skills_are_listed_newest_first,
    another_workspace_sees_no_skill,
    bytes_go_with_the_last_that_has_them,
    a_session_keeps_what_it_was_made_with,
    sessions_and_environments_reach_their_own_skills_only,
    a_session_is_not_made_with_what_is_gone,
}

async fn version(w: &World, content: &str) -> NewSkillVersion {
    let blob = w.store.blobs().put(content.as_bytes(), 1000).await.unwrap();
    NewSkillVersion {
        id: w.ids.next(),
        name: "checks".into(),
        description: format!("of {content}"),
        size: blob.size,
        blob: blob.key,
    }
}

async fn skill(w: &World, content: &str) -> SkillRow {
    w.tick();
    let new = NewSkill {
        id: w.ids.next(),
        workspace_id: w.workspace.clone(),
        display_name: "Checks".into(),
        first: version(w, content).await,
    };
    w.store.create_skill(new).await.unwrap()
}

async fn add(w: &World, skill: &SkillRow, content: &str) -> SkillVersionRow {
    let new = version(w, content).await;
    let added = w.store.add_skill_version(&w.workspace, &skill.id, new);
    added.await.unwrap()
}

async fn find(w: &World, skill: &SkillId, name: VersionName) -> Option<SkillVersionRow> {
    let found = w.store.skill_version(&w.workspace, skill, name);
    found.await.unwrap()
}

async fn session(w: &World, skills: Vec<SkillVersionId>) -> crate::SessionRow {
    let new = NewSession {
        skills,
        ..w.new_session()
    };
    w.store.create_session(new).await.unwrap()
}

async fn a_skill_has_the_version_it_was_made_with(w: World) {
    let made = skill(&w, "one").await;
    assert_eq!(
        (made.name.as_str(), made.display_name.as_str()),
        ("checks", "Checks")
    );
    let found = w.store.skill(&w.workspace, &made.id).await.unwrap();
    assert_eq!(found.as_ref(), Some(&made));
    let latest = find(&w, &made.id, VersionName::Latest).await.unwrap();
    assert_eq!(latest.id, made.latest);
    assert_eq!(
        (latest.name.as_str(), latest.description.as_str()),
        ("checks", "of one")
    );
    for name in [
        VersionName::Id(made.latest.clone()),
        VersionName::Number(made.latest_number),
    ] {
        assert_eq!(find(&w, &made.id, name).await.as_ref(), Some(&latest));
    }
    assert_eq!(
        find(&w, &made.id, VersionName::Id(w.ids.next())).await,
        None
    );
    assert_eq!(
        find(&w, &w.ids.next(), VersionName::Id(made.latest)).await,
        None
    );
}

async fn versions_are_numbered_and_listed_newest_first(w: World) {
    let made = skill(&w, "0").await;
    let mut all = vec![find(&w, &made.id, VersionName::Latest).await.unwrap()];
    // The clock stands still.
    for n in 1..5 {
        all.insert(0, add(&w, &made, &n.to_string()).await);
    }
    assert!(all.windows(2).all(|pair| pair[0].number > pair[1].number));
    let list = |before, limit| {
        w.store
            .list_skill_versions(&w.workspace, &made.id, before, limit)
    };
    assert_eq!(list(None, 10).await.unwrap(), all);
    assert_eq!(list(None, 2).await.unwrap(), all[..3]);
    assert_eq!(list(Some(all[1].number), 10).await.unwrap(), all[2..]);
    let now = w
        .store
        .skill(&w.workspace, &made.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (&now.latest, now.latest_number),
        (&all[0].id, all[0].number)
    );
}

async fn every_version_has_the_name_of_its_skill(w: World) {
    let made = skill(&w, "one").await;
    let other = NewSkillVersion {
        name: "other".into(),
        ..version(&w, "two").await
    };
    let added = w
        .store
        .add_skill_version(&w.workspace, &made.id, other)
        .await;
    assert!(matches!(added, Err(AddSkillVersionError::OtherName { name }) if name == "checks"));
    let new = version(&w, "two").await;
    let unknown = w.ids.next();
    let added = w.store.add_skill_version(&w.workspace, &unknown, new);
    assert!(matches!(added.await, Err(AddSkillVersionError::NotFound)));
    assert_eq!(
        w.store.skill(&w.workspace, &made.id).await.unwrap(),
        Some(made)
    );
}

async fn the_only_version_stays(w: World) {
    let made = skill(&w, "one").await;
    let delete = |name| w.store.delete_skill_version(&w.workspace, &made.id, name);
    let refused = delete(VersionName::Id(made.latest.clone())).await;
    assert!(matches!(refused, Err(DeleteSkillVersionError::Last)));
    let unknown = delete(VersionName::Id(w.ids.next())).await;
    assert!(matches!(unknown, Err(DeleteSkillVersionError::NotFound)));
    assert!(find(&w, &made.id, VersionName::Latest).await.is_some());
}

async fn deleting_the_newest_makes_the_one_before_it_newest(w: World) {
    let made = skill(&w, "one").await;
    let second = add(&w, &made, "two").await;
    w.tick();
    let name = VersionName::Id(second.id.clone());
    let deleted = w.store.delete_skill_version(&w.workspace, &made.id, name);
    assert_eq!(deleted.await.unwrap(), second);
    let now = w
        .store
        .skill(&w.workspace, &made.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(now.latest, made.latest);
    assert!(now.updated_at > made.updated_at);
    assert_eq!(w.content(&second.blob).await, None);
    // Its number is not given again.
    assert!(add(&w, &made, "three").await.number > second.number);
}

async fn skills_are_listed_newest_first(w: World) {
    let mut made = Vec::new();
    for n in 0..4 {
        made.insert(0, skill(&w, &n.to_string()).await);
    }
    let q = |after, limit| SkillQuery { after, limit };
    let list = |q| w.store.list_skills(&w.workspace, q);
    assert_eq!(list(q(None, 10)).await.unwrap(), made);
    assert_eq!(list(q(None, 2)).await.unwrap(), made[..3]);
    let after = Some((made[1].created_at, made[1].id.clone()));
    assert_eq!(list(q(after, 10)).await.unwrap(), made[2..]);
}

async fn another_workspace_sees_no_skill(w: World) {
    let made = skill(&w, "one").await;
    let other = w.store.create_workspace("b".into()).await.unwrap().id;
    assert_eq!(w.store.skill(&other, &made.id).await.unwrap(), None);
    let found = w.store.skill_version(&other, &made.id, VersionName::Latest);
    assert_eq!(found.await.unwrap(), None);
    let all = w.store.list_skill_versions(&other, &made.id, None, 10);
    assert!(all.await.unwrap().is_empty());
    let q = SkillQuery {
        limit: 10,
        ..Default::default()
    };
    assert!(w.store.list_skills(&other, q).await.unwrap().is_empty());
    let new = version(&w, "two").await;
    let added = w.store.add_skill_version(&other, &made.id, new).await;
    assert!(matches!(added, Err(AddSkillVersionError::NotFound)));
    assert!(!w.store.delete_skill(&other, &made.id).await.unwrap());
    assert_eq!(
        w.store.skill(&w.workspace, &made.id).await.unwrap(),
        Some(made)
    );
}

async fn bytes_go_with_the_last_that_has_them(w: World) {
    let (a, b) = (skill(&w, "same").await, skill(&w, "same").await);
    let blob = find(&w, &b.id, VersionName::Latest).await.unwrap().blob;
    let file = w.file("same").await;
    assert!(w.store.delete_skill(&w.workspace, &a.id).await.unwrap());
    assert!(!w.store.delete_skill(&w.workspace, &a.id).await.unwrap());
    w.store.delete_file(&w.workspace, &file.id).await.unwrap();
    assert!(w.content(&blob).await.is_some());
    w.clock.advance_millis(1_000 * 60 * 60 * 24 * 365 * 100);
    assert_eq!(w.store.gc().await.unwrap().blobs, 0, "still used");
    assert!(w.store.delete_skill(&w.workspace, &b.id).await.unwrap());
    assert!(w.content(&blob).await.is_none());
}

async fn a_session_keeps_what_it_was_made_with(w: World) {
    let (one, two) = (skill(&w, "one").await, skill(&w, "two").await);
    let made = session(&w, vec![two.latest.clone(), one.latest.clone()]).await;
    let kept = w.store.session_skills(&made.id).await.unwrap();
    let ids: Vec<_> = kept.iter().map(|v| &v.id).collect();
    assert_eq!(ids, [&two.latest, &one.latest]);
    add(&w, &one, "one, again").await;
    assert!(w.store.delete_skill(&w.workspace, &two.id).await.unwrap());
    assert_eq!(w.store.session_skills(&made.id).await.unwrap(), kept);
    assert_eq!(w.content(&kept[0].blob).await.as_deref(), Some("two"));
    w.store
        .delete_session(&w.workspace, &made.id)
        .await
        .unwrap();
    assert!(w.store.session_skills(&made.id).await.unwrap().is_empty());
    assert_eq!(w.content(&kept[0].blob).await, None);
    assert_eq!(w.content(&kept[1].blob).await.as_deref(), Some("one"));
}

async fn sessions_and_environments_reach_their_own_skills_only(w: World) {
    let (one, two) = (skill(&w, "one").await, skill(&w, "two").await);
    let made = session(&w, vec![one.latest.clone()]).await;
    let newer = add(&w, &one, "one, again").await;
    let of_session =
        async |skill: &SkillId, name| w.store.session_skill_version(&made.id, skill, name).await;
    let latest = of_session(&one.id, VersionName::Latest).await.unwrap();
    assert_eq!(latest.unwrap().id, one.latest, "as it was then");
    let later = of_session(&one.id, VersionName::Id(newer.id.clone())).await;
    assert_eq!(later.unwrap(), None);
    assert_eq!(
        of_session(&two.id, VersionName::Latest).await.unwrap(),
        None
    );
    let of_environment = async |environment: &EnvironmentId, skill: &SkillId, name| {
        let found = w.store.environment_skill_version(environment, skill, name);
        found.await
    };
    let own = of_environment(&w.environment, &one.id, VersionName::Id(one.latest.clone()));
    assert!(own.await.unwrap().is_some());
    let foreign = of_environment(&w.environment, &two.id, VersionName::Latest);
    assert_eq!(foreign.await.unwrap(), None);
    let other = w.environment(&w.workspace, "other").await;
    let elsewhere = of_environment(&other, &one.id, VersionName::Latest);
    assert_eq!(elsewhere.await.unwrap(), None);
}

async fn a_session_is_not_made_with_what_is_gone(w: World) {
    let made = skill(&w, "one").await;
    w.store.delete_skill(&w.workspace, &made.id).await.unwrap();
    let new = NewSession {
        skills: vec![made.latest.clone()],
        ..w.new_session()
    };
    let id = new.id.clone();
    let refused = w.store.create_session(new).await;
    assert!(matches!(refused, Err(CreateSessionError::SkillGone(id)) if id == made.latest));
    assert!(w.store.session_any(&id).await.unwrap().is_none());
}
