//! The whole of it: what is counted, what is logged, who waits.

use super::*;

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

#[tokio::test(start_paused = true)]
async fn each_refusal_is_counted_under_its_own_name() {
    let abuse = Abuse::default();
    for (index, refusal) in Refusal::ALL.iter().enumerate() {
        assert_eq!(refusal.index(), index);
        abuse.refused(*refusal, &"somebody");
        assert_eq!(abuse.count(*refusal), 1, "{refusal:?}");
    }
    let labels: std::collections::BTreeSet<_> =
        Refusal::ALL.iter().map(|refusal| refusal.label()).collect();
    assert_eq!(labels.len(), Refusal::ALL.len(), "no label twice");
}

#[tokio::test(start_paused = true)]
async fn who_fails_waits_longer_each_time_and_is_then_not_heard() {
    let abuse = Abuse::default();
    let mut waited = Vec::new();
    for _ in 0..20 {
        let begun = Instant::now();
        assert!(!abuse.is_refused(ADDRESS, 20).await);
        abuse.failed(ADDRESS, 20).await;
        waited.push(begun.elapsed());
    }
    assert_eq!(waited[3], Duration::ZERO, "a mistake is a mistake");
    assert!(waited[4] > Duration::ZERO && waited[6] > waited[5]);
    assert_eq!(waited[19], tarpit::LONGEST);
    let begun = Instant::now();
    assert!(abuse.is_refused(ADDRESS, 20).await);
    assert_eq!(begun.elapsed(), tarpit::LONGEST);
    assert_eq!(abuse.count(Refusal::LoginFailures), 1);
    let begun = Instant::now();
    assert!(!abuse.is_refused("192.0.2.2".parse().unwrap(), 20).await);
    assert_eq!(begun.elapsed(), Duration::ZERO, "others are not delayed");
}
