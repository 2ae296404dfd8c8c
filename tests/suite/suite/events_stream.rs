//! Events as a stream on tokio's reactor (feature `tokio`).

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream;
use pericarp::{Event, EventStream};

use crate::support::fixture::payload as run_payload;
use crate::support::watch::{begun, created, removed};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    a_stream_tells_all_and_ends_with_the_pod,
    streams_of_many_pods_share_one_thread,
    a_stream_that_waits_is_woken_each_time,
];

async fn next(stream: &mut EventStream) -> Option<Event> {
    poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)).await.map(|event| event.expect("an event"))
}

/// Runs on one thread, with a guard against hanging.
fn block<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let work =
        async { tokio::time::timeout(Duration::from_secs(600), work).await.expect("the stream hangs") };
    runtime.block_on(work)
}

fn a_stream_tells_all_and_ends_with_the_pod() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    block(async {
        let mut stream = pod.events().expect("subscribe").into_stream().expect("a stream");
        // On another thread, as a program would call what blocks.
        let other = pod.clone();
        let work = std::thread::spawn(move || {
            for code in 0..5 {
                let spec = run_payload(&format!("c{code}"), &["exit", &code.to_string()]);
                other.run(&spec).expect("run");
            }
            other.remove().expect("remove the pod");
        });
        let mut seen = Vec::new();
        while let Some(event) = next(&mut stream).await {
            seen.push(event);
        }
        work.join().expect("no panic");
        for code in 0..5 {
            let name = format!("c{code}");
            let of: Vec<_> = seen.iter().filter(|event| event.container() == Some(&name)).collect();
            assert_eq!(of.len(), 4, "{of:?}");
            assert_eq!((of[0], of[1], of[3]), (&created(&name), &begun(&name), &removed(&name)));
        }
        assert_eq!(seen.last(), Some(&Event::PodRemoved));
        assert!(next(&mut stream).await.is_none() && stream.events().is_over());
    });
    PASS
}

fn streams_of_many_pods_share_one_thread() -> Outcome {
    let fixture = Fixture::new();
    let pods: Vec<_> = (0..8).map(|number| fixture.pod(&format!("p{number}"))).collect();
    block(async {
        let watch = |pod: &pericarp::Pod| {
            let mut stream = pod.events().expect("subscribe").into_stream().expect("a stream");
            async move {
                let mut events = Vec::new();
                while let Some(event) = next(&mut stream).await {
                    events.push(event);
                }
                events
            }
        };
        let local = tokio::task::LocalSet::new();
        let tasks: Vec<_> = pods.iter().map(|pod| local.spawn_local(watch(pod))).collect();
        let work = std::thread::spawn(move || {
            for pod in &pods {
                pod.run(&run_payload("a", &["exit", "0"])).expect("run");
            }
            pods.iter().for_each(|pod| pod.remove().expect("remove a pod"));
        });
        local
            .run_until(async {
                for task in tasks {
                    // created, started, exited, removed, empty; and the pod's removal.
                    let events = task.await.expect("no panic");
                    assert_eq!(events.len(), 6, "{events:?}");
                }
            })
            .await;
        work.join().expect("no panic");
    });
    PASS
}

fn a_stream_that_waits_is_woken_each_time() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    block(async {
        let mut stream = pod.events().expect("subscribe").into_stream().expect("a stream");
        let container = pod.create_container(&run_payload("a", &["sleep"])).expect("create");
        assert_eq!(next(&mut stream).await, Some(created("a")));
        container.start().expect("start");
        assert_eq!(next(&mut stream).await, Some(begun("a")));
        for _ in 0..10 {
            // Nothing is there until the freezing: the reactor's readiness is edge-triggered.
            let nothing = tokio::time::timeout(Duration::from_millis(20), next(&mut stream)).await;
            assert!(nothing.is_err(), "{nothing:?}");
            container.freeze().expect("freeze");
            let container_frozen = Event::Frozen { container: Some("a".to_string()) };
            assert_eq!(next(&mut stream).await, Some(container_frozen));
            container.thaw().expect("thaw");
            assert_eq!(next(&mut stream).await, Some(Event::Thawed { container: Some("a".to_string()) }));
        }
    });
    PASS
}
