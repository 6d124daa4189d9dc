// An existing key is answered with 400, as CAP answers it on other databases: its service for SQLite leaves the
// database's own code, which nobody has mapped to a status, and the answer would be 500.
const cds = require('@sap/cds')

module.exports = cds.service.impl(function () {
  if (process.env.CAP_KEY_EXISTS === '500') return
  this.on('error', error => {
    if (error.code === 'SQLITE_CONSTRAINT_PRIMARYKEY') {
      error.code = 'ENTITY_ALREADY_EXISTS'
      error.status = 400
    }
  })
})
