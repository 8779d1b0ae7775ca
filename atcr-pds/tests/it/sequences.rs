//! Random sequences of insertions, updates and removals against a sorted map, as many as are asked for:
//!
//! ```text
//! ATCR_PDS_SEQUENCES=3000000 cargo test --release -p atcr-pds --test it sequences -- --nocapture
//! ```
//!
//! `ATCR_PDS_SEED` repeats a run. A sequence that fails is made as small as it gets before it is printed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use atcr_pds::repo::mst::{
    Change, MstError, NodeBlock, NodeMap, Nodes, Tree, Written, covering, diff, height, invert, path,
};
use ipld_core::cid::Cid;

use crate::support::{build, value};

/// How many sequences an ordinary test run tries.
const USUAL: u64 = 2_500;
const SEED: u64 = 0x5eed;

/// Steele and Lea's SplitMix64: quick, and its whole state is one number that can be printed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }

    fn within(&mut self, range: Range<usize>) -> usize {
        range.start + self.below(range.end - range.start)
    }
}

/// `com.example.note/k<n>` that stand far above the others: (layer, n). They were searched for.
const HIGH: [(u8, u32); 34] = [
    (5, 541),
    (5, 3111),
    (5, 3290),
    (5, 3435),
    (5, 4270),
    (5, 40_738_496),
    (6, 8860),
    (6, 15_680),
    (6, 17_548),
    (6, 24_232),
    (6, 26_265),
    (6, 40_727_184),
    (7, 37_838),
    (7, 43_174),
    (7, 67_495),
    (7, 40_724_176),
    (8, 388_156),
    (8, 427_675),
    (8, 717_358),
    (8, 40_602_755),
    (9, 1_524_926),
    (9, 1_791_834),
    (9, 4_901_735),
    (9, 40_553_704),
    (10, 337_582),
    (10, 3_749_760),
    (10, 8_607_446),
    (10, 39_678_990),
    (11, 613_960),
    (11, 8_977_006),
    (11, 25_973_273),
    (13, 25_010_112),
    (14, 26_625_649),
    (14, 27_916_349),
];

/// Keys of several kinds, each kind in a range of its own.
struct Keys {
    texts: Vec<String>,
    kinds: Vec<Range<usize>>,
    values: Vec<Cid>,
}

impl Keys {
    fn new() -> Self {
        let note = |n: u32| format!("com.example.note/k{n}");
        let mut random = Random(SEED);
        let mut text = |max: usize| -> String {
            let all = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_:~";
            (0..random.within(1..max)).map(|_| char::from(all[random.below(all.len())])).collect()
        };
        let kinds: Vec<Vec<String>> = vec![
            (0..300).map(note).collect(),
            HIGH.iter()
                .map(|(layer, n)| {
                    assert_eq!(height(&note(*n)), *layer);
                    note(*n)
                })
                .collect(),
            // Long, and different only at the end.
            (0..100).map(|n| format!("com.example.{}/{}{n:02}", "x".repeat(300), "a".repeat(500))).collect(),
            // Each the beginning of the next.
            (1..100).map(|n| format!("com.example.note/{}", "a".repeat(n))).collect(),
            // Every character, in collections that sort between each other's keys.
            (0..300)
                .map(|n| {
                    let collection = ["a.b.c", "a.b.c-d.e", "a.b.c.d", "a.b.c0", "a.b.cD", "~"][n % 6];
                    format!("{collection}/{}", text(if n % 3 == 0 { 3 } else { 40 }))
                })
                .collect(),
            // One character each: the whole alphabet.
            "-.0123456789:ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
                .chars()
                .map(|c| format!("com.example.note/{c}"))
                .collect(),
        ];
        let mut keys = Vec::new();
        let kinds = kinds
            .into_iter()
            .map(|kind| {
                let begin = keys.len();
                keys.extend(kind);
                begin..keys.len()
            })
            .collect();
        Self { texts: keys, kinds, values: (0..5).map(value).collect() }
    }
}

/// A key, and the value it is given; none removes it.
type Op = (usize, Option<usize>);

#[derive(Clone)]
struct Sequence {
    /// What is there before the first commit.
    start: Vec<(usize, usize)>,
    commits: Vec<Vec<Op>>,
    /// Nodes are given only when they are asked for a second time, as a store does that has to read them first.
    late: bool,
}

impl Sequence {
    fn random(keys: &Keys, random: &mut Random) -> Self {
        let large = random.below(100) == 0;
        // Few enough that updates and removals meet what is there.
        let mut chosen = Vec::new();
        for _ in 0..=random.below(3) {
            let kind = keys.kinds[random.below(keys.kinds.len())].clone();
            let most = if large { 200 } else { 16 };
            for _ in 0..=random.below(most) {
                chosen.push(random.within(kind.clone()));
            }
        }
        let one = |random: &mut Random| chosen[random.below(chosen.len())];
        let any_value = |random: &mut Random| random.below(keys.values.len());
        let full = random.below(chosen.len() + 1);
        let start = (0..full).map(|_| (one(random), any_value(random))).collect();
        let commits = (0..=random.below(4))
            .map(|_| {
                let most = if random.below(8) == 0 { 40 } else { 6 };
                (0..=random.below(most))
                    .map(|_| (one(random), (random.below(5) > 1).then(|| any_value(random))))
                    .collect()
            })
            .collect();
        Self { start, commits, late: random.below(8) == 0 }
    }

    /// The same with one thing left out, in every way there is.
    fn smaller(&self) -> impl Iterator<Item = Self> + '_ {
        let without_commit = (0..self.commits.len()).map(|at| {
            let mut smaller = self.clone();
            smaller.commits.remove(at);
            smaller
        });
        let without_op = self.commits.iter().enumerate().flat_map(move |(c, ops)| {
            (0..ops.len()).map(move |at| {
                let mut smaller = self.clone();
                smaller.commits[c].remove(at);
                smaller
            })
        });
        let without_start = (0..self.start.len()).map(|at| {
            let mut smaller = self.clone();
            smaller.start.remove(at);
            smaller
        });
        let prompt = self.late.then(|| Self { late: false, ..self.clone() });
        without_commit.chain(without_op).chain(without_start).chain(prompt)
    }

    fn shrunk(mut self, fails: impl Fn(&Self) -> bool) -> Self {
        loop {
            let Some(smaller) = self.smaller().find(&fails) else { return self };
            self = smaller;
        }
    }
}

/// A sequence with its keys spelled out.
struct Shown<'a>(&'a Sequence, &'a Keys);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(sequence, keys) = self;
        writeln!(f, "late: {}", sequence.late)?;
        for (key, value) in &sequence.start {
            writeln!(f, "there: {} = {value}", keys.texts[*key])?;
        }
        for commit in &sequence.commits {
            writeln!(f, "commit:")?;
            for (key, value) in commit {
                writeln!(f, "  {} = {value:?}", keys.texts[*key])?;
            }
        }
        Ok(())
    }
}

/// Says that a node is missing the first time it is asked for.
struct Late<'n> {
    nodes: &'n NodeMap,
    known: Option<RefCell<HashSet<Cid>>>,
}

impl Nodes for Late<'_> {
    fn node(&self, cid: &Cid) -> Result<Arc<NodeBlock>, MstError> {
        match &self.known {
            Some(known) if known.borrow_mut().insert(*cid) => Err(MstError::Missing(*cid)),
            _ => self.nodes.node(cid),
        }
    }
}

/// Does what may fail for want of a node until it does not.
fn again<T>(mut operation: impl FnMut() -> Result<T, MstError>) -> Result<T, MstError> {
    loop {
        match operation() {
            Err(MstError::Missing(_)) => {}
            done => return done,
        }
    }
}

macro_rules! hold {
    ($holds:expr, $($what:tt)*) => {
        if !$holds {
            return Err(format!($($what)*));
        }
    };
}

/// One tree with its nodes and the map that it should be.
struct Run<'k> {
    keys: &'k Keys,
    model: BTreeMap<&'k str, Cid>,
    root: Cid,
    nodes: NodeMap,
    tree: Tree,
}

impl<'k> Run<'k> {
    fn sequence(keys: &'k Keys, sequence: &Sequence) -> Result<(), String> {
        let model: BTreeMap<&str, Cid> =
            sequence.start.iter().map(|(k, v)| (&*keys.texts[*k], keys.values[*v])).collect();
        let (root, nodes) = build(&model);
        let mut run = Run { keys, model, root, nodes, tree: Tree::open(root) };
        sequence.commits.iter().try_for_each(|ops| run.commit(ops, sequence.late))
    }

    fn commit(&mut self, ops: &[Op], late: bool) -> Result<(), String> {
        let before = self.model.clone();
        let nodes = Late { nodes: &self.nodes, known: late.then(RefCell::default) };
        for (key, new) in ops {
            let key = &*self.keys.texts[*key];
            let tree = &mut self.tree;
            let was = self.model.get(key).copied();
            hold!(again(|| tree.get(&nodes, key)) == Ok(was), "get {key}");
            match (new.map(|v| self.keys.values[v]), was) {
                (None, None) => {
                    let missing = Err(MstError::KeyNotFound(key.into()));
                    hold!(again(|| tree.remove(&nodes, key)) == missing, "remove a missing {key}");
                    hold!(again(|| tree.update(&nodes, key, self.keys.values[0])) == missing, "update {key}");
                }
                (None, Some(was)) => {
                    hold!(again(|| tree.remove(&nodes, key)) == Ok(was), "remove {key}");
                    self.model.remove(key);
                }
                (Some(new), None) => {
                    hold!(again(|| tree.insert(&nodes, key, new)) == Ok(()), "insert {key}");
                    self.model.insert(key, new);
                }
                (Some(new), Some(was)) => {
                    let exists = Err(MstError::KeyExists(key.into()));
                    hold!(again(|| tree.insert(&nodes, key, new)) == exists, "insert {key} again");
                    hold!(again(|| tree.update(&nodes, key, new)) == Ok(was), "update {key}");
                    self.model.insert(key, new);
                }
            }
        }
        let written = self.tree.write().map_err(|e| e.to_string())?;
        self.judge(&before, &written)
    }

    /// Compares a tree that was written with one that is made from scratch, and with what a consumer can prove.
    fn judge(&mut self, before: &BTreeMap<&str, Cid>, written: &Written) -> Result<(), String> {
        let (root, scratch) = build(&self.model);
        hold!(written.root == root, "the root is not that of a tree from scratch");
        let mut history = self.nodes.clone();
        for cid in &written.removed {
            hold!(self.nodes.node(cid).is_ok(), "{cid} is removed and was not there");
            self.nodes.remove(cid);
        }
        for node in &written.added {
            hold!(self.nodes.node(node.cid()).is_err(), "{} is added and was there", node.cid());
            self.nodes.insert(node.clone());
            history.insert(node.clone());
        }
        hold!(self.nodes.len() == scratch.len(), "{} nodes for {}", self.nodes.len(), scratch.len());
        for cid in scratch.cids() {
            hold!(self.nodes.node(cid).is_ok(), "node {cid} is missing");
        }

        let expected = changes(before, &self.model);
        let found = diff(&history, &self.root, &root).map_err(|e| format!("diff: {e}"))?;
        hold!(found == expected, "the difference is {found:?}, not {expected:?}");

        let proof =
            covering(&self.nodes, &root, expected.iter().map(|c| &*c.key)).map_err(|e| e.to_string())?;
        let mut alone = NodeMap::default();
        for node in &proof {
            alone.insert(node.clone());
        }
        hold!(alone.len() == proof.len(), "a node is twice in the proof");
        for node in &written.added {
            hold!(alone.node(node.cid()).is_ok(), "the new node {} is not in the proof", node.cid());
        }
        let ops = || expected.iter().map(|c| (&*c.key, c.before, c.after));
        let back = invert(&alone, &root, ops());
        hold!(back == Ok(self.root), "undone in order: {back:?}");
        let back = invert(&alone, &root, ops().rev());
        hold!(back == Ok(self.root), "undone backwards: {back:?}");
        // Changes first, then removals, then insertions: the order in which relays undo.
        let rank = |c: &Change| (c.before.is_none(), c.after.is_some());
        let mut relay: Vec<&Change> = expected.iter().collect();
        relay.sort_by_key(|c| rank(c));
        let back = invert(&alone, &root, relay.iter().map(|c| (&*c.key, c.before, c.after)));
        hold!(back == Ok(self.root), "undone as relays do: {back:?}");
        if let Some(change) = expected.first() {
            let wrong = change.after.map_or(self.keys.values.first().copied(), |_| None);
            let lie = invert(&alone, &root, [(&*change.key, change.before, wrong)]);
            hold!(matches!(lie, Err(MstError::NotInvertible(_))), "a wrong operation is undone: {lie:?}");
        }

        // The way to a key proves what is there, to somebody who has nothing else.
        let asked = expected.iter().map(|c| &*c.key).chain(self.model.keys().copied().take(3));
        for key in asked.chain(["com.example.note/absent"]) {
            let mut alone = NodeMap::default();
            for node in path(&self.nodes, &root, key).map_err(|e| e.to_string())? {
                alone.insert(node);
            }
            let proven = Tree::open(root).get(&alone, key);
            hold!(proven == Ok(self.model.get(key).copied()), "{key} is proven to be {proven:?}");
        }
        self.root = root;
        Ok(())
    }
}

fn changes(before: &BTreeMap<&str, Cid>, after: &BTreeMap<&str, Cid>) -> Vec<Change> {
    let keys: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
    let change = |key: &str| Change {
        key: key.into(),
        before: before.get(key).copied(),
        after: after.get(key).copied(),
    };
    keys.into_iter().map(change).filter(|c| c.before != c.after).collect()
}

fn outcome(keys: &Keys, sequence: &Sequence) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| Run::sequence(keys, sequence)))
        .unwrap_or_else(|_| Err("it panics".into()))
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

#[test]
fn every_sequence_leaves_the_tree_of_its_contents_and_commits_that_can_be_undone() {
    let keys = Keys::new();
    let (count, seed) = (number("ATCR_PDS_SEQUENCES", USUAL), number("ATCR_PDS_SEED", SEED));
    let (mut commits, mut ops) = (0, 0);
    for n in 0..count {
        let own = seed.wrapping_add(n);
        let sequence = Sequence::random(&keys, &mut Random(own));
        commits += sequence.commits.len();
        ops += sequence.commits.iter().map(Vec::len).sum::<usize>();
        if let Err(error) = outcome(&keys, &sequence) {
            let small = sequence.shrunk(|sequence| outcome(&keys, sequence).is_err());
            let why = outcome(&keys, &small).unwrap_err();
            panic!("ATCR_PDS_SEED={own} ATCR_PDS_SEQUENCES=1: {error}\n{}{why}", Shown(&small, &keys));
        }
    }
    println!("{count} sequences of {commits} commits and {ops} operations, from seed {seed}");
}

/// The judge can see: a tree that loses a key, and a proof that lacks a node, do not pass.
#[test]
fn a_tree_that_loses_an_entry_is_found_and_made_small() {
    let keys = Keys::new();
    // What a wrong tree would have: the model lacks what the tree has.
    let fails = |sequence: &Sequence| {
        let model: BTreeMap<&str, Cid> =
            sequence.start.iter().map(|(k, v)| (&*keys.texts[*k], keys.values[*v])).collect();
        let (root, nodes) = build(&model);
        let mut run = Run { keys: &keys, model, root, nodes, tree: Tree::open(root) };
        if let Some((lost, _)) = run.model.pop_first() {
            assert!(run.tree.get(&run.nodes, lost).unwrap().is_some());
        }
        sequence.commits.iter().try_for_each(|ops| run.commit(ops, sequence.late)).is_err()
    };
    let mut random = Random(7);
    let sequence = std::iter::repeat_with(|| Sequence::random(&keys, &mut random)).find(&fails).unwrap();
    let small = sequence.shrunk(fails);
    assert_eq!((small.start.len(), small.commits.len(), small.late), (1, 1, false));
    assert!(small.commits[0].len() <= 1);
}
