use super::{CANDIDATES_MAX, JournalExt, OperationQuery, OperationState};
