//! The names of the errors that the methods of `io.atcr.hold.*` declare.

/// There is no valid token, or it is of someone who must not.
pub const AUTH_REQUIRED: &str = "AuthRequired";
/// The upload could not be given up.
pub const ABORT_FAILED: &str = "AbortFailed";
/// The bytes that the caller uploaded as this blob are not that.
pub const BLOB_QUARANTINED: &str = "BlobQuarantined";
/// The blob is not in this repository.
pub const BLOB_NOT_FOUND: &str = "BlobNotFound";
/// The upload could not be completed; the content may not have its digest.
pub const COMPLETION_FAILED: &str = "CompletionFailed";
/// The records could not be deleted.
pub const DELETION_FAILED: &str = "DeletionFailed";
/// The digest is not one.
pub const INVALID_DIGEST: &str = "InvalidDigest";
/// The operation is not `push` or `pull`.
pub const INVALID_OPERATION: &str = "InvalidOperation";
/// The owner is not a DID.
pub const INVALID_OWNER: &str = "InvalidOwner";
/// There is no such part number.
pub const INVALID_PART_NUMBER: &str = "InvalidPartNumber";
/// The repository is not one.
pub const INVALID_REPOSITORY: &str = "InvalidRepository";
/// The scanner's secret is wrong.
pub const INVALID_SECRET: &str = "InvalidSecret";
/// There is no such upload, or it is of someone else.
pub const INVALID_UPLOAD_ID: &str = "InvalidUploadId";
/// The user is not a DID.
pub const INVALID_USER_DID: &str = "InvalidUserDid";
/// Parts are missing.
pub const MISSING_PARTS: &str = "MissingParts";
/// The user's tier has no room for this.
pub const QUOTA_EXCEEDED: &str = "QuotaExceeded";
/// The hold takes no one who enrols.
pub const REGISTRATION_DISABLED: &str = "RegistrationDisabled";
/// The part could not be stored.
pub const UPLOAD_FAILED: &str = "UploadFailed";
/// The token is of another user than the input names.
pub const USER_MISMATCH: &str = "UserMismatch";
/// No one of that DID is crew.
pub const USER_NOT_FOUND: &str = "UserNotFound";
