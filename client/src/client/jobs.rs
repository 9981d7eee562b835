//! Operations on jobs.

use crate::api::{BatchRequest, BatchResponse, ExecuteRequest, ExecuteResponse, Job};
use crate::error::Error;
use crate::http::Method;
use crate::ids::{JobId, Language};

use super::{Call, Client, path};

impl Client {
    /// `POST /packages/{package}/{version}/execute`: runs a job in the newest installed version in
    /// `range`, and waits for its end. Dropping the future kills the job.
    pub async fn execute(
        &self,
        package: &Language,
        range: &str,
        request: &ExecuteRequest,
    ) -> Result<ExecuteResponse, Error> {
        let path = path(&["packages", package.as_str(), range, "execute"]);
        self.call(Call::new(Method::Post, path).json(request).work())
            .await
    }

    /// `POST /packages/{package}/{version}/batch`: compiles once, runs each case, and waits for
    /// the verdicts. Dropping the future kills the job.
    pub async fn batch(
        &self,
        package: &Language,
        range: &str,
        request: &BatchRequest,
    ) -> Result<BatchResponse, Error> {
        let path = path(&["packages", package.as_str(), range, "batch"]);
        self.call(Call::new(Method::Post, path).json(request).work())
            .await
    }

    /// `GET /jobs`: what runs and what waits.
    pub async fn jobs(&self) -> Result<Vec<Job>, Error> {
        self.get(path(&["jobs"])).await
    }

    /// `GET /jobs/{id}`: one of them.
    pub async fn job(&self, id: &JobId) -> Result<Job, Error> {
        self.get(path(&["jobs", &id.to_string()])).await
    }

    /// `DELETE /jobs/{id}`: kills it.
    pub async fn kill(&self, id: &JobId) -> Result<(), Error> {
        self.command(Call::new(Method::Delete, path(&["jobs", &id.to_string()])))
            .await
    }
}
