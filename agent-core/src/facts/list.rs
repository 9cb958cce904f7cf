//! Lists that are kept sorted and free of duplicates, so that equal facts compare and hash as equal.

/// Adds `more` to `list`.
pub(super) fn join<T: Ord + Clone>(list: &mut Vec<T>, more: &[T]) {
    list.extend_from_slice(more);
    list.sort_unstable();
    list.dedup();
}
